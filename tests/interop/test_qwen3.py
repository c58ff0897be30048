"""Qwen3 equals transformers' at every tap, padding included, and prompts become the ids of its chat template."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest
import torch
from diffusers import Flux2KleinPipeline
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from bench.real_models import QWEN3_4B
from core.models.text.qwen3 import Qwen3Encoder
from core.models.text.tokenizers import TextTokenizer, chat_message
from tests import tiny_qwen3
from tests.interop.reference import TOLERANCE, ours, randomized, relative_error

SMALL = QWEN3_4B | {
    "vocab_size": 99, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
PROMPTS = ["a photo of a sks can", "", "  Ünïcödé,\nit's a DOG's 42 toys! ", "a <|im_end|> within", "word " * 90]
LENGTH = tiny_qwen3.TOKENS - 1


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_qwen3.write_tokenizer(folder)
    return folder


@pytest.mark.parametrize("taps", [(1, 3, 5), (-2,), (0,)], ids=["as klein", "as Z-Image", "the embedding"])
@pytest.mark.parametrize("whole", [True, False], ids=["with a head", "without"])
def test_hidden_states_equal_the_references(tmp_path: Path, taps: tuple[int, ...], whole: bool) -> None:
    reference = randomized((Qwen3ForCausalLM if whole else Qwen3Model)(Qwen3Config(**SMALL)), seed=3)
    reference.save_pretrained(tmp_path)
    ids = [[(7 * i + 3 * b) % 99 for i in range(12)] for b in range(2)]
    real = [[True] * 12, [True] * 5 + [False] * 7]
    with torch.no_grad():
        states = reference(
            torch.tensor(ids), attention_mask=torch.tensor(real).long(), output_hidden_states=True, use_cache=False
        ).hidden_states
    encoder = ours(lambda config: Qwen3Encoder(config, taps), tmp_path, "model")
    assert len(encoder.layers) == max(tap % 7 for tap in taps)
    found = encoder(mx.array(ids), mx.array(real))
    assert relative_error(found, torch.cat([states[tap] for tap in taps], dim=-1)) <= TOLERANCE


def test_a_config_of_another_qwen3_is_refused() -> None:
    stretched = SMALL | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}
    for config, taps, reason in ((stretched, (1,), "yarn"), (SMALL, (6,), "before the last"), (SMALL, (-1,), "before")):
        with pytest.raises(ValueError, match=reason):
            Qwen3Encoder(config, taps)


def test_kleins_ids_and_features_are_the_pipelines(tmp_path: Path, tokenizer_folder: Path) -> None:
    reference = randomized(Qwen3ForCausalLM(Qwen3Config(**SMALL | {"vocab_size": tiny_qwen3.WORDS})), seed=4)
    reference.save_pretrained(tmp_path)
    seen = {}
    reference.register_forward_pre_hook(lambda module, args, inputs: seen.update(inputs), with_kwargs=True)
    taps = (1, 3, 5)
    with torch.no_grad():
        expected = Flux2KleinPipeline._get_qwen3_prompt_embeds(
            reference,
            AutoTokenizer.from_pretrained(tokenizer_folder),
            PROMPTS,
            max_sequence_length=LENGTH,
            hidden_states_layers=taps,
        )
    messages = [chat_message(prompt, thinking=False) for prompt in PROMPTS]
    ids, real = TextTokenizer(tokenizer_folder, LENGTH).with_padding(messages)
    assert ids.tolist() == seen["input_ids"].tolist()
    assert real.tolist() == seen["attention_mask"].bool().tolist()
    assert [row[-1] for row in real.tolist()] == [False, False, False, False, True]  # the last is cut
    encoder = ours(lambda config: Qwen3Encoder(config, taps), tmp_path, "model")
    assert relative_error(encoder(ids, real), expected) <= TOLERANCE


@pytest.mark.parametrize("thinking", [True, False])
def test_a_prompts_chat_is_the_templates(tokenizer_folder: Path, thinking: bool) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    for prompt in PROMPTS:
        expected = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        assert chat_message(prompt, thinking) == expected
