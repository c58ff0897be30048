"""Presets of a run: by goal (what the subject is) and by time (how long it may take).

    person, animal, object, style        knobs that suit the subject, and prompts worth watching
    quick, balanced, thorough            steps, how often samples are drawn, picture size

A preset sets documented knobs of `core/config/train.py` and nothing else, each with its reason, which says whether it
is published by others or a convention. They lie between the model's defaults and what the user sets
(core/config/resolve.py). What differs by family of models names its families.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PLAIN, BARE = "a photo of {trigger} {class_word}", "a photo of {class_word}"


@dataclass(frozen=True, slots=True)
class Change:
    """A knob that a preset sets, and why."""

    knob: str
    value: Any
    reason: str
    families: tuple[str, ...] = ()  # of models; every family when empty

    def suits(self, family: str) -> bool:
        return not self.families or family in self.families


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sample prompt that a goal proposes."""

    label: str
    text: str
    reason: str  # what one sees by it


@dataclass(frozen=True, slots=True)
class Goal:
    """What the subject is."""

    label: str
    sentence: str
    prompts: tuple[Prompt, ...]
    watched: int  # how many of the prompts, from the first, a run draws
    changes: tuple[Change, ...] = ()

    def all_changes(self, family: str) -> list[Change]:
        """Of a family of models, the prompts included."""
        words = f"What to watch: {'; '.join(f'{each.label.lower()} ({each.reason})' for each in self._watched)}."
        prompts = Change("sample_prompts", tuple(each.text for each in self._watched), words)
        return [prompts, *(each for each in self.changes if each.suits(family))]

    @property
    def _watched(self) -> tuple[Prompt, ...]:
        return self.prompts[: self.watched]


@dataclass(frozen=True, slots=True)
class Time:
    """How long a run may take, against the steps that suit the model and the photos."""

    label: str
    sentence: str
    steps_times: float
    rounds: int = 0  # of samples and checkpoints over the run; 0 leaves the model's


_PLAIN = Prompt("Plain", PLAIN, "whether the likeness is there")
_BEACH = Prompt("On the beach", "{trigger} {class_word} on the beach", "whether it can be somewhere else")
_STYLED = Prompt("As a painting", "an oil painting of {trigger} {class_word}", "whether it can be something else")
_BARE = Prompt("Bare class", BARE, "how much of it leaks into the class word alone")

GOALS: dict[str, Goal] = {
    "person": Goal(
        "Person",
        "A face is what people look at first, so one of the samples is a close-up.",
        (
            _PLAIN,
            Prompt(
                "Close-up", "a close-up portrait of {trigger} {class_word}", "the face: a likeness fails there first"
            ),
            _BEACH,
            _STYLED,
            _BARE,
        ),
        2,
        (
            Change(
                "rank",
                32,
                "AI Toolkit, PortOS and stephen37/workshops take 32 for people on FLUX.2 klein: a "
                "convention, not measured here.",
                ("flux2",),
            ),
            Change("flip", False, "No face is the same in a mirror: a convention."),
        ),
    ),
    "animal": Goal(
        "Animal",
        "The model's own settings; the samples show it plain and somewhere else.",
        (
            _PLAIN,
            _BEACH,
            Prompt("Close-up", "a close-up of the face of {trigger} {class_word}", "eyes, fur and markings"),
            Prompt("In motion", "{trigger} {class_word} running through grass", "whether it can move"),
            _STYLED,
            _BARE,
        ),
        2,
        (Change("flip", False, "Markings differ from side to side: a convention."),),
    ),
    "object": Goal(
        "Object",
        "The model's own settings; the samples show it plain and somewhere else.",
        (
            _PLAIN,
            _BEACH,
            Prompt("Close-up", "a close-up of {trigger} {class_word} on a wooden table", "print, seams and texture"),
            Prompt("In a hand", "a hand holding {trigger} {class_word}", "its size"),
            _STYLED,
            _BARE,
        ),
        2,
        (Change("flip", False, "Print and logos would be learned in a mirror: a convention."),),
    ),
    "style": Goal(
        "Style",
        "A style is in the whole picture, so nothing in a photo is treated as the subject.",
        (
            Prompt("A place", "a lighthouse on a cliff, {trigger} {class_word}", "a scene that no photo shows"),
            Prompt("A person", "a portrait of a woman, {trigger} {class_word}", "whether faces take it on"),
            Prompt("A thing", "a bowl of fruit on a table, {trigger} {class_word}", "whether plain things take it on"),
            Prompt("Bare class", "a lighthouse on a cliff, {class_word}", "how much leaks into the class word alone"),
            Prompt("Without it", "a lighthouse on a cliff", "what the base draws: it should not change"),
        ),
        2,
        (
            Change("find_subjects", False, "No crop should follow one thing in the picture: a convention."),
            Change("background_weight", 1.0, "A style has no background: all of the picture counts."),
            Change(
                "sigma_draw",
                "model_shift",
                "More noise, where the whole of a picture is decided; AI Toolkit has a switch for it. A convention, "
                "and only where the family's shift for training is known.",
                ("flux1", "flux2"),
            ),
        ),
    ),
}
"""By name, in the order in which they are shown."""

TIMES: dict[str, Time] = {
    "quick": Time("Quick", "Half of the steps: to see whether the photos and the settings work.", 0.5, 5),
    "balanced": Time("Balanced", "The steps that suit the model and the number of your photos.", 1.0),
    "thorough": Time("Thorough", "Twice the steps, and larger pictures on models that start small.", 2.0, 10),
}
STEPS_ROUNDED = 50
THOROUGH_FROM_PX, THOROUGH_PX = 512, 768
THOROUGH_DRAWS = 2


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ANIMALS = _words("""
    animal bear bird bunny calf cat chicken cow crow deer dog dolphin donkey dragon duck eagle elephant ferret fish foal
    fox frog giraffe goat goldfish goose guinea hamster hen hedgehog horse kitten lamb lion lizard monkey mouse octopus
    otter owl panda parrot penguin pet pig pigeon pony puppy rabbit raccoon rat raven rooster seal shark sheep snake
    spider squirrel swan tiger tortoise turtle whale wolf zebra
    beagle bulldog chihuahua collie corgi dachshund dalmatian husky labrador mastiff poodle pug retriever rottweiler
    schnauzer shepherd spaniel terrier whippet persian ragdoll siamese sphynx tabby
""")
PEOPLE = _words("""
    actor actress adult artist athlete aunt baby boy bride brother character child couple dancer daughter dad elder
    face father female friend gentleman girl grandfather grandmother groom guy hero human husband infant kid lady
    male man model mom mother mum musician person player portrait princess queen king self selfie singer sister
    soldier son teen teenager toddler uncle wife woman
""")
STYLES = _words("""
    aesthetic anime animation art artwork cartoon comic drawing engraving etching fresco graphic illustration ink
    lineart lithograph look manga mosaic painting pastel photography pixelart print render sketch style watercolor
    watercolour woodcut
""")
THINGS = _words("""
    ceramic costume doll drawn figure figurine knitted lego mask mini model mug ornament plastic plush plushie puppet
    sculpture statue stuffed sticker toy wooden
""")
PLURALS = {"people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "puppies": "puppy"}
AFTER_THE_NOUN = _words("with of in on at from by wearing holding and who")


def proposed_goal(class_word: str) -> str:
    """The goal that a class word suggests: "golden retriever" an animal, "toy dog" an object.

    The noun decides: the last word before "with", "in" and the like. Without a known word it is an object.
    """
    words = [PLURALS.get(word, word) for word in re.findall(r"[^\W\d_]+", class_word.lower())]
    end = next((place for place, word in enumerate(words) if place and word in AFTER_THE_NOUN), len(words))
    phrase = words[:end]
    if not phrase:
        return "object"
    noun = phrase[-1]
    if _in(noun, STYLES):
        return "style"
    if any(_in(word, THINGS) for word in phrase[:-1]):
        return "object"
    return "person" if _in(noun, PEOPLE) else "animal" if _in(noun, ANIMALS) else "object"


def _in(word: str, words: frozenset[str]) -> bool:
    return word in words or word.removesuffix("s") in words


def time_changes(name: str, defaults: Mapping[str, Any], steps: int) -> list[Change]:
    """What a time preset sets, on a model with these defaults for which so many steps suit the photos."""
    time = TIMES[name]
    rounded = STEPS_ROUNDED if steps * time.steps_times >= STEPS_ROUNDED else 1
    count = max(round(steps * time.steps_times / rounded) * rounded, 1)
    if time.steps_times == 1.0:
        return [Change("steps", steps, "The model's own number, and more for many photos.")]
    words = "Half of" if time.steps_times < 1 else "Twice"
    found = [Change("steps", count, f"{words} the {steps} steps that suit the model and the photos.")]
    every = max(round(count / time.rounds), 1)
    found += [
        Change(knob, every, f"{time.rounds} times over the run.") for knob in ("sample_every", "save_every")
    ]  # fmt: skip
    if name == "thorough":
        draws = max(int(defaults.get("score_draws", 1)), THOROUGH_DRAWS)
        found.append(Change("score_draws", draws, "More noise draws name the best step more reliably."))
        if defaults.get("side_px") == THOROUGH_FROM_PX:
            reason = "What 512 px cannot show: print, weave, a small face. A step takes about twice as long."
            found.append(Change("side_px", THOROUGH_PX, reason))
    return found


def changes(
    goal: str | None, time: str | None, family: str, defaults: Mapping[str, Any], steps: int
) -> dict[str, Change]:
    """Every knob that the two presets set on a model, by name; one of None sets nothing.

    `defaults` are the model's, `steps` what suits it and the photos. Raises KeyError for an unknown name.
    """
    found = GOALS[goal].all_changes(family) if goal else []
    found += time_changes(time, defaults, steps) if time else []
    return {each.knob: each for each in found}
