"""Which module may import which, and a few rules that hold for every file.

`app` imports `core`, `core` never imports `app`, and inside both a module imports only from levels below its own or
from its own package. A new module needs a level here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Lowest first. A name stands for the module and, unless a longer name is listed, for all below it.
CORE_LEVELS: list[tuple[str, ...]] = [
    ("core.errors", "core.randomness", "core.strict_json", "core.pocket.assets"),
    ("core.config", "core.files", "core.device"),
    ("core.safetensors_file", "core.adapters.key_maps"),
    ("core.flow", "core.numerics", "core.weights",
     "core.dataset.photos", "core.dataset.captions", "core.dataset.crops", "core.dataset.buckets",
     "core.dataset.caption_files", "core.dataset.names", "core.dataset.split", "core.dataset.colour",
     "core.dataset.triggers",
     "core.dataset.formats", "core.dataset.frames", "core.dataset.hdr", "core.dataset.heif_boxes",
     "core.dataset.decode_cost",
     "core.dataset.pixel_budget", "core.dataset.tiff_tags", "core.dataset.masks", "core.dataset.mask_files",
     "core.dataset.subject_crops", "core.dataset.dates", "core.dataset.archives"),
    ("core.loss", "core.hub", "core.adapters", "core.captioners"),
    ("core.estimate",),
    ("core.models",),
    ("core.dataset", "core.sampling"),
    ("core.vision",),
    ("core.training",),
    ("core.distributed",),
    ("core.pocket",),
    ("core.self_test",),
]  # fmt: skip
APP_LEVELS: list[tuple[str, ...]] = [
    ("app.errors", "app.resources", "app.sheet", "app.jobs.states", "app.jobs.process"),
    ("app.tables", "app.worker.lanes"),
    ("app.home", "app.migrations", "app.settings", "app.wording"),
    ("app.database",),
    ("app.jobs",),
    ("app.events", "app.security"),
    ("app.worker.supervisor",),
    ("app.actions",),
    ("app.knob_fields",),
    ("app.pages",),
    ("app.routes",),
    ("app.main", "app.worker", "app.terminal"),
    ("app.cli",),
]  # fmt: skip
LEVELS = [("core",), *CORE_LEVELS, ("app",), *APP_LEVELS, ("bench",)]
MODULES_AT_CORES_TOP = 9  # beside its packages

COMPUTES = ("app.worker", "app.terminal", "app.cli")  # run in processes of their own; the web process is the rest
SUPERVISES = ("app.worker.supervisor", "app.worker.lanes")  # and these two
LIGHT_CORE = {  # the modules of core that the web process may import: none needs MLX or numpy
    "core.errors", "core.files", "core.safetensors_file", "core.strict_json",
    "core.config.choices", "core.config.drawing_limits", "core.config.knob", "core.config.layer_ranks",
    "core.config.optimizer_defaults", "core.config.presets", "core.config.resolve", "core.config.settings_file",
    "core.config.train",
    "core.weights.forms", "core.weights.names", "core.weights.places", "core.weights.recognize",
    "core.hub.assembled", "core.hub.comfyui", "core.hub.foreign", "core.hub.analysis_models",
    "core.hub.cache", "core.hub.catalog", "core.hub.families", "core.hub.layout", "core.hub.registry",
    "core.estimate.architecture", "core.estimate.memory", "core.estimate.requirements",
    "core.adapters.contents", "core.adapters.key_maps", "core.adapters.layers", "core.adapters.peft_config",
    "core.adapters.programs", "core.adapters.trainable",
    "core.device.hardware", "core.device.units", "core.device.working_set",
    "core.distributed.hosts", "core.pocket.assets",
    "core.dataset.photos", "core.dataset.captions", "core.dataset.crops", "core.dataset.buckets",
    "core.dataset.caption_files", "core.dataset.names", "core.dataset.split", "core.dataset.colour",
     "core.dataset.triggers",
    "core.dataset.formats", "core.dataset.frames", "core.dataset.hdr", "core.dataset.heif_boxes",
    "core.dataset.decode_cost",
    "core.dataset.pixel_budget", "core.dataset.tiff_tags", "core.dataset.masks", "core.dataset.mask_files",
    "core.dataset.subject_crops", "core.dataset.dates", "core.dataset.archives", "core.vision.results",
    "core.device.malloc", "core.device.metal", "core.estimate.vae",
    "core.captioners.base", "core.captioners.openai", "core.captioners.reply",
    "core.captioners.environment", "core.captioners.guarded_process", "core.captioners.platforms",
    "core.hub.caption_model",
    "core.dataset.class_folder", "core.dataset.examples",
    "core.training.check", "core.training.choice", "core.training.diagnosis", "core.training.due",
    "core.training.gauges", "core.training.likeness", "core.training.trend",
}  # fmt: skip
HEAVY = {"mlx", "numpy", "torch", "tokenizers", "huggingface_hub", "cv2", "objc", "Vision"}
HOSTS = {  # every address that a tracked file may name: sources, standards, and this computer
    "127.0.0.1", "localhost", "github.com", "arxiv.org", "w3.org", "json-schema.org", "huggingface.co",
    "keepachangelog.com",
}  # fmt: skip


@cache
def modules() -> dict[str, Path]:
    """Every module of app, core and bench by dotted name."""
    found = {}
    for package in ("app", "core", "bench"):
        for path in sorted((ROOT / package).rglob("*.py")):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imports(module: str) -> Iterator[str]:
    """Dotted names of what a module imports, at its top or within functions, for types only or not."""
    path = modules()[module]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else str(node.module)


def level_of(module: str) -> int | None:
    """The index into LEVELS of the longest name that stands for this module."""
    best: tuple[int, int] | None = None
    for index, names in enumerate(LEVELS):
        for name in names:
            stem = name.removesuffix(".*")
            inside = module.startswith(f"{stem}.") if name.endswith(".*") else module == stem
            below = not name.endswith(".*") and module.startswith(f"{stem}.") and stem not in ("app", "core")
            if (inside or below) and (best is None or len(name) > best[0]):
                best = (len(name), index)
    return None if best is None else best[1]


def related(module: str, other: str) -> bool:
    """Whether both are of one package below `app` or `core`, or one is the other's package."""
    home = module if modules()[module].name == "__init__.py" else module.rpartition(".")[0]
    package = home.split(".")[:2]
    return len(package) == 2 and other.split(".")[:2] == package


def web_side() -> list[str]:
    """The modules of app that the web process may import."""
    ours = [name for name in modules() if name.startswith("app")]
    return [name for name in ours if name in SUPERVISES or not name.startswith(COMPUTES)]


def is_of(module: str, package: str, name: str, other: str) -> bool:
    return module.split(".")[0] == package and name.split(".")[0] == other


def test_a_module_imports_only_from_below_or_from_its_own_package() -> None:
    wrong = []
    for module in modules():
        own = level_of(module)
        if own is None:
            wrong.append(f"{module} has no level; give it one in tests/test_layers.py")
            continue
        for name in imports(module):
            other = level_of(name)
            if name.split(".")[0] not in ("app", "core") or other is None:
                continue
            if other > own or (other == own and not related(module, name)):
                wrong.append(f"{module} imports {name}, which is not below it")
    assert not wrong


def test_no_files_import_each_other_in_a_circle() -> None:
    """Repeatedly removes the modules that import none of the remaining ones; those left import in circles."""
    left = {module: set(imports(module)) & modules().keys() - {module} for module in modules()}
    while free := [module for module, needed in left.items() if not needed & left.keys()]:
        for module in free:
            del left[module]
    assert not left


def test_the_top_of_core_is_read_at_a_glance() -> None:
    top = [name for name, path in modules().items() if path.parent == ROOT / "core" and path.name != "__init__.py"]
    assert len(top) <= MODULES_AT_CORES_TOP


def test_a_package_of_core_imports_nothing_by_itself() -> None:
    """Its `__init__.py` is empty, so importing a light module never imports a heavy one beside it."""
    filled = [name for name, path in modules().items() if name.startswith("core") and path.name == "__init__.py"
              and path.read_text(encoding="utf-8").strip()]  # fmt: skip
    folders = {path.parent for name, path in modules().items() if name.startswith("core")}
    bare = [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()]
    assert not filled
    assert not bare


def test_core_never_imports_app() -> None:
    wrong = [(module, name) for module in modules() for name in imports(module) if is_of(module, "core", name, "app")]
    assert not wrong


def test_the_web_side_of_app_knows_only_the_light_part_of_core() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        if module in web_side()
        for name in imports(module)
        if is_of(module, "app", name, "core") and name not in LIGHT_CORE
    ]
    assert not wrong


def test_the_light_part_of_core_imports_nothing_heavy() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in LIGHT_CORE & modules().keys()
        for name in imports(module)
        if name.split(".")[0] in HEAVY or (name.split(".")[0] == "core" and name not in LIGHT_CORE)
    ]
    assert not wrong


def test_the_product_runs_without_the_references() -> None:
    foreign = {"torch", "transformers", "diffusers", "peft", "mflux", "flux"}
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        if not module.startswith(("core.pocket.", "bench."))  # pretraining and comparisons may use anything
        for name in imports(module)
        if name.split(".")[0] in foreign
    ]
    assert not wrong


def sources() -> list[Path]:
    """Everything that people read: code, pages, guides; not what was vendored or trained."""
    kinds = {".py", ".md", ".html", ".css", ".js", ".toml", ".svg"}
    folders = ("app", "core", "templates", "static", "tests", "bench", "docs", ".ci")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*"))]
    files += [path for path in sorted(ROOT.iterdir()) if path.is_file() and path.name != ".coverage"]
    skipped = {"vendor", "weights", "__pycache__", "examples"}
    return [
        path
        for path in files
        if path.is_file()
        and not skipped & set(path.relative_to(ROOT).parts)
        and (path.suffix in kinds or path.name in ("Makefile", "run", ".gitignore"))
    ]


def test_files_name_only_hosts_that_are_sources() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in sources()
        for host in re.findall(r"https?://(?:www\.)?([\w-]+(?:\.[\w-]+)+)", path.read_text(encoding="utf-8"))
        if host not in HOSTS and not host.endswith((".example", "example.com", "example.org", ".invalid", ".test"))
    ]
    assert not wrong


def test_files_name_no_folder_of_anybodys_machine() -> None:
    machine = re.compile(r"(?<![\w.}*~])/(?:root|work|opt|mnt)/[a-z]")
    wrong = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in sources()
        if (found := machine.search(path.read_text(encoding="utf-8")))
    ]
    assert not wrong
