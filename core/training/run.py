"""A run before anything is loaded: the arguments of `train`, checked, and what follows from them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from core.config.train import TrainConfig
from core.dataset import class_folder
from core.dataset.examples import Example
from core.errors import ConfigProblem, FieldProblem
from core.models.base import Family
from core.training import identity, validation
from core.training.class_images import prompt_of
from core.training.group import Group
from core.training.judging import pairs_of
from core.training.preview import prompts_of


class Run:
    """One call of `train`. Raises ConfigProblem, DataProblem."""

    def __init__(
        self,
        family: Family,
        examples: Sequence[Example],
        config: TrainConfig,
        folder: Path,
        *,
        trigger: str,
        class_word: str,
        cache: Path,
        start_from: Path | None,
        title: str,
        group: Group,
        dinov2: Path | None,
    ) -> None:
        if config.machines % group.size:
            words = f"is {config.machines}, and {group.size} are here; they must share it evenly"
            raise ConfigProblem("Some settings need another look.", [FieldProblem("machines", words)])
        self.family, self.examples, self.config, self.group = family, examples, config, group
        self.folder, self.cache, self.start_from = folder, cache, start_from
        self.trigger, self.title, self.dinov2 = trigger, title or trigger, dinov2
        self.prompts = prompts_of(config, trigger, class_word)
        self.class_prompt = prompt_of(config, trigger, class_word)  # empty without class pictures
        self.bare_prompts = pairs_of(config, self.prompts, trigger)  # empty where no pictures are measured
        self.own_class_pictures: list[Example] = []
        if config.class_folder:
            self.own_class_pictures = class_folder.read(config.class_folder, *self.class_prompt)
        names = [each.label for each in examples]
        self.held_out = validation.choose(config.held_out, names, config.seed)  # by place among the examples
        words_used = [*([trigger] if config.untriggers else []), *self.class_prompt]
        words_used += [each.sha256 for each in self.own_class_pictures]
        self.data_hash = identity.data_hash_of(examples, words_used)
        self.started_at = time.time()
