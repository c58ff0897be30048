"""Forms of weights that are not read: each is named, with what to do, before anything is loaded or started."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from tokenizers import Tokenizer

from core.errors import ModelProblem
from core.hub import catalog, comfyui, foreign
from core.models.text.tokenizers import TextTokenizer, chat_message
from core.weights.forms import INSTEAD
from tests import foreign as files
from tests import tiny, tiny_klein, tiny_qwen3


@pytest.mark.parametrize("name", files.SENTENCES)
def test_a_file_that_is_not_read_is_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    file = files.write(tmp_path / "models" / "diffusion_models", name)
    (refused,) = comfyui.scan(tmp_path).refused
    assert refused.path == file
    assert refused.trouble.startswith(files.SENTENCES[name])
    assert refused.trouble.endswith(INSTEAD)
    with pytest.raises(ModelProblem, match=name):
        catalog.find(str(file))
    assert name in foreign.trouble_of_folder(tmp_path)


def test_a_file_of_another_model_is_no_offer(tmp_path: Path) -> None:
    tensors = {"input_blocks.0.0.weight": mx.zeros((4, 4)), "out.2.weight": mx.zeros((4, 4))}
    place = tmp_path / "models" / "unet"
    place.mkdir(parents=True)
    mx.save_safetensors(str(place / "sdxl.safetensors"), tensors)
    found = comfyui.scan(tmp_path)
    assert not found.offers
    assert not found.refused


def test_a_cut_off_file_is_refused_and_others_are_offered(tmp_path: Path) -> None:
    place = tmp_path / "models" / "vae"
    place.mkdir(parents=True)
    (place / "cut.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    (refused,) = comfyui.scan(tmp_path).refused
    assert "is damaged or cut off at 9 bytes" in refused.trouble


@pytest.mark.parametrize("part", ["transformer", "text_encoder_2"])
def test_a_part_that_says_it_is_quantized_is_refused_by_the_catalog(tmp_path: Path, part: str) -> None:
    folder = tiny.make_model_folder(tmp_path / "mine")
    files.quantize_config(folder / part)
    entry = catalog.models([tmp_path])["mine"]
    assert not entry.usable
    assert entry.trouble == (
        f"{folder} cannot be used: {part}/config.json says that the weights are quantized with bitsandbytes "
        f"(quantization_config); {INSTEAD}."
    )
    with pytest.raises(ModelProblem, match="quantized with bitsandbytes"):
        catalog.find("mine", [tmp_path])


def test_quantized_weights_are_refused_by_the_catalog(tmp_path: Path) -> None:
    folder = tiny.make_model_folder(tmp_path / "mine")
    place = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    files.write(tmp_path, "mflux-4bit.safetensors").rename(place)
    entry = catalog.entry_for(folder, "mine")
    assert not entry.usable
    assert "transformer/diffusion_pytorch_model.safetensors was saved by mflux 0.18.0" in entry.trouble
    assert "was saved by mflux" in foreign.trouble_of_folder(folder)


def test_a_link_to_a_file_that_went_away_says_where_it_pointed(tmp_path: Path) -> None:
    folder = tiny.make_model_folder(tmp_path / "mine")
    place = folder / "vae" / "diffusion_pytorch_model.safetensors"
    place.unlink()
    place.symlink_to(tmp_path / "ComfyUI" / "ae.safetensors")
    assert (
        f"is a link to {tmp_path}/ComfyUI/ae.safetensors, which is not there" in catalog.entry_for(folder, "m").trouble
    )


def test_a_folder_without_comfyuis_folders_is_none_of_it(tmp_path: Path) -> None:
    assert "has none of ComfyUI's folders (diffusion_models, unet" in comfyui.trouble_of_folder(tmp_path)
    assert "is not an absolute path" in comfyui.trouble_of_folder(Path("ComfyUI"))
    assert "is not a folder on this computer" in comfyui.trouble_of_folder(tmp_path / "gone")
    (tmp_path / "models" / "vae").mkdir(parents=True)
    assert not comfyui.trouble_of_folder(tmp_path)
    assert not comfyui.trouble_of_folder(tmp_path / "models")


def parted(folder: Path, *, added: bool) -> Path:
    """A tokenizer folder with vocab.json and merges.txt in the place of its tokenizer.json."""
    table = json.loads((folder / "tokenizer.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(table["model"]["vocab"]))
    merges = (each if isinstance(each, str) else " ".join(each) for each in table["model"]["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    if added:
        marks = {each["content"]: each["id"] for each in table["added_tokens"]}
        (folder / "added_tokens.json").write_text(json.dumps(marks))
    (folder / "tokenizer.json").unlink()
    return folder


def test_qwen3s_tokenizer_is_built_from_its_vocabulary(tmp_path: Path) -> None:
    tiny_qwen3.write_tokenizer(tmp_path / "whole")
    folder = parted(Path(shutil.copytree(tmp_path / "whole", tmp_path / "parted")), added=True)
    prompts = [chat_message("a sks can, in the Snow\n 12", thinking) for thinking in (True, False)]
    ids, own = TextTokenizer(folder, 64).with_padding(prompts)
    expected_ids, expected_own = TextTokenizer(tmp_path / "whole", 64).with_padding(prompts)
    assert ids.tolist() == expected_ids.tolist()
    assert own.tolist() == expected_own.tolist()


def test_without_added_tokens_the_marks_are_qwen3s_own(tmp_path: Path) -> None:
    """In their order after the vocabulary: 151,643 is <|endoftext|> and 151,668 </think> in the real one."""
    tiny_qwen3.write_tokenizer(tmp_path)
    words = len(json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"])
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("user\n").ids
    parted(tmp_path, added=False)
    row = TextTokenizer(tmp_path, 64)([chat_message("", thinking=False)])[0].tolist()
    assert row[: 1 + len(plain)] == [words + 1, *plain]
    assert [each for each in row if each > words][:5] == [words + 1, words + 2, words + 1, words + 24, words + 25]
    assert row[-1] == words


def test_a_model_with_such_a_tokenizer_is_complete(tmp_path: Path) -> None:
    folder = tiny_klein.make_model_folder(tmp_path / "klein")
    parted(folder / "tokenizer", added=True)
    assert catalog.entry_for(folder, "klein").usable
