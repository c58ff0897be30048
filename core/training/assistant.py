"""The training assistant: a frozen adapter that is on while a distilled model learns, and off while it draws.

    a step       y = W x + subject(x) + assistant(x)        gradients reach the subject's A and B alone
    a picture    y = W x + subject(x)

A distilled model that is trained loses its few steps first: that is the shortest way to a smaller loss. The assistant,
an adapter trained on the model's own pictures, has gone that way already, and the subject is what is left to learn.
Taken off again, it leaves a model that draws in few steps and knows the subject; after long runs the few steps suffer
all the same. It belongs to the model (core/hub/catalog.py finds it), and is never exported.

Source: the training adapter of AI Toolkit for Z-Image-Turbo (Ostris, 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from core.adapters import file as adapter_file
from core.adapters import lora
from core.errors import AdapterProblem, ModelProblem
from core.models.base import Family

UNASSISTED = (
    "This model was distilled to draw in few steps, and no training assistant of it is here: while it learns the "
    "subject its pictures may turn soft. The Models page offers one for Z-Image-Turbo; else train on the base."
)


def attach(family: Family) -> lora.Adapter | None:
    """Put the model's assistant on, frozen and silent; None when it has none.

    Raises ModelProblem when its file cannot be read or is for another model.
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
    """Have it on, if there is one, for as long as a step takes."""
    if assistant is not None:
        assistant.strength = 1.0
    try:
        yield
    finally:
        if assistant is not None:
            assistant.strength = 0.0
