"""The training assistant: a frozen adapter, enabled while a distilled model trains and disabled while it draws.

    a step       y = W x + subject(x) + assistant(x)        gradients for the subject's A and B alone
    a picture    y = W x + subject(x)

Training a distilled model first undoes the distillation, since that reduces the loss most. The assistant, an adapter
trained on the model's own pictures, has undone it already, so that the subject is what is left to learn. Without the
assistant the model draws in few steps again and knows the subject; after long runs the few steps suffer all the same.
The assistant belongs to the model (core/hub/catalog.py finds it), and is never exported.

Sources: the training adapters of AI Toolkit for FLUX.1-schnell (Ostris, 2024) and Z-Image-Turbo (2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from core.adapters import file as adapter_file
from core.adapters import lora
from core.errors import AdapterProblem, ModelProblem
from core.models.base import Family


def attach(family: Family) -> lora.Adapter | None:
    """Attach the model's assistant, frozen and disabled; None if the model has none.

    Raises ModelProblem if its file cannot be read or is for another model.
    """
    file = family.assistant
    if file is None:
        return None
    try:
        factors = adapter_file.read(file, family.name).factors
        return lora.attach_factors(family.transformer, factors, name="assistant", strength=0.0)
    except AdapterProblem as problem:
        words = f"The training assistant of this model, {file.name}, cannot be used. {problem.message}"
        raise ModelProblem(words, problem.problems) from None


@contextmanager
def enabled(assistant: lora.Adapter | None) -> Iterator[None]:
    """Enable the assistant, if there is one, during a step or a score."""
    if assistant is not None:
        assistant.strength = 1.0
    try:
        yield
    finally:
        if assistant is not None:
            assistant.strength = 0.0
