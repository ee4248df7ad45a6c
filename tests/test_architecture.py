"""The house keeps its doors: who may import which library, and which room may import which.

Read from the source, so imports inside functions and under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("luab_jax", "data_prep", "configs")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}

OWNERS = {
    "flax": ("luab_jax.models",),
    "grain": ("luab_jax.data.pipeline",),
    "orbax": ("luab_jax.checkpoints.store", "luab_jax.checkpoints.s3"),
    "optax": ("luab_jax.training.losses", "luab_jax.training.optim", "luab_jax.training.step"),
    "apache_beam": ("data_prep.writing.beam",),
    "fsspec": ("luab_jax.io.storage",),
    "s3fs": ("luab_jax.io.retries",),
    "absl": (
        "luab_jax.cli",
        "luab_jax.main",
        "luab_jax.evaluate",
        "luab_jax.export",
        "luab_jax.report.__main__",
        "luab_jax.preflight.__main__",
        "luab_jax.preview.__main__",
    ),
    "ml_collections": ("luab_jax.config.flags",),
    "tensorflow_datasets": ("luab_jax.data.features", "luab_jax.data.schema", "data_prep"),
    "tensorboardX": ("luab_jax.training.metric_log",),
    "cv2": (
        *("luab_jax.data.transforms", "luab_jax.data.resampling", "luab_jax.evaluation"),
        "data_prep.datasets.imagenet_p",  # frames of videos
        "benchmarks",
    ),
    "google": ("luab_jax.data.example_proto",),
    "pycocotools": ("luab_jax.data.masks",),
    "PIL": (
        *("luab_jax.data.decoding", "luab_jax.data.inputs", "luab_jax.data.transforms", "luab_jax.data.resampling"),
        *("luab_jax.data.watermark", "luab_jax.corruptions.frost_photos"),
        *("luab_jax.preview.grid", "luab_jax.report.page.overlay"),
        *("data_prep", "benchmarks"),
    ),
    "pyarrow": ("data_prep.datasets.imagenet_hard", "benchmarks"),
    "msgspec": ("luab_jax.results", "luab_jax.evaluation.results"),
    "jinja2": ("luab_jax.report.page.write", "data_prep.inspect.gallery.write", "data_prep.collect.web"),
    "onnxruntime": ("luab_jax.foreign.onnx_file",),
    "onnx": (),
    "safetensors": ("luab_jax.models.timm_weights", "luab_jax.foreign.torch_module"),
    "starlette": ("data_prep.collect.web",),
    "uvicorn": ("data_prep.collect.web.server",),
    "itsdangerous": ("data_prep.collect.web.tokens",),
    "argon2": ("data_prep.collect.web.tokens",),
    "psycopg": ("data_prep.collect.postgres",),
    "sqlite3": ("data_prep.collect.sqlite",),
    "playwright": ("data_prep.collect.simulate",),
    "tensorflow": (),
    "torch": ("luab_jax.foreign.torch_module",),
    "torchvision": (),
    "timm": ("luab_jax.foreign.torch_module",),
    "transformers": ("luab_jax.foreign.hf_folder",),
}
"""Library to the modules or packages that may import it."""

WRITER = "luab_jax.io.atomic"
"""The one module that writes files."""
WRITES_ITSELF = {
    "data_prep.collect.sqlite": {"path.open"},  # the lock file of a server
    "data_prep.sources.scratch_tar": {"to.open"},  # the temporary file that `_unpack` passes
    "luab_jax.evaluation.saved_predictions": {"self._zip.open", "np.save"},  # members of the archive of `atomic_file`
}
"""Module to the calls in it that write nothing outside of a file of `WRITER`."""

DATA = {"byproducts", "data", "errors", "io"}
ROOMS = {
    "errors": set(),
    "byproducts": set(),
    "models": {"io"},
    "augmentation": {"byproducts", "errors", "models"},
    "corruptions": {"errors"},
    "io": {"errors"},
    "metrics": {"errors"},
    "data": {"byproducts", "errors", "io"},
    "config": {*DATA, "augmentation", "models"},
    "distributed": {"config", "errors", "io"},
    "checkpoints": {*DATA, "config", "distributed", "models", "results"},
    "training": {
        *(*DATA, "augmentation", "checkpoints", "config", "distributed"),
        *("foreign", "metrics", "models"),
    },
    "results": {"errors", "io"},
    "report": {"errors", "io", "results"},
    "report.__main__": {"cli", "errors", "report"},
    "evaluation": {*DATA, "checkpoints", "corruptions", "distributed", "foreign", "metrics", "models", "results"},
    "foreign": {*DATA, "results"},
    "recipes": {*DATA, "augmentation", "config", "models"},
    "config.flags": {"config", "errors", "recipes"},
    "cli": {"config.flags", "errors", "io"},
    "preflight": {*DATA, "config", "models", "training"},
    "preflight.__main__": {"cli", "config", "config.flags", "errors", "io", "preflight"},
    "preview": {*DATA, "augmentation", "config", "training"},
    "api": {*DATA, "checkpoints", "config", "distributed", "evaluation", "foreign", "models", "preview", "training"},
    "preview.__main__": {"api", "cli", "config.flags", "errors"},
    "main": {"byproducts", "recipes", "api", "cli", "config", "config.flags", "distributed", "errors"},
    "__main__": {"errors"},
    "evaluate": {"api", "cli", "config", "data", "distributed", "errors", "evaluation"},
    "export": {"api", "cli", "errors"},
    "data_prep": {*DATA, "corruptions"},
    "configs": {"config", "recipes"},
}
"""Room to the rooms of luab_jax that it may import, besides itself."""


@functools.cache
def imports(module: str) -> tuple[str, ...]:
    """Every dotted name that a module imports; of `from a import b` both `a` and, where it is a module, `a.b`."""
    return tuple(_imports(ast.parse(MODULES[module].read_text(encoding="utf-8"))))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            assert node.module is not None
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in submodules if name in MODULES]
            yield from known
            if len(known) < len(submodules):
                yield node.module


def room(module: str) -> str:
    """`data` of `luab_jax.data.pipeline`, `preview.__main__` of a command; `data_prep` of everything there."""
    parts = module.split(".")
    if parts[0] == "luab_jax" and ".".join(parts[1:]) in ROOMS:
        return ".".join(parts[1:])
    return parts[1] if parts[0] == "luab_jax" and len(parts) > 1 else parts[0]


def is_within(module: str, owner: str) -> bool:
    return module == owner or module.startswith(f"{owner}.")


def test_there_is_something_to_check() -> None:
    assert {
        "luab_jax.training.loop",
        "luab_jax.data.pipeline",
        "data_prep.writing.shards",
        "configs.demo",
    } <= MODULES.keys()
    assert "grain" in imports("luab_jax.data.pipeline")
    assert "luab_jax.training.losses" in imports("luab_jax.training.step")


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owners_only(library: str) -> None:
    users = {module for module in MODULES if any(name.split(".")[0] == library for name in imports(module))}
    strangers = {module for module in users if not any(is_within(module, owner) for owner in OWNERS[library])}
    assert not strangers, f"{library} belongs to {OWNERS[library] or 'nobody'}"


@pytest.mark.parametrize("name", sorted({room(module) for module in MODULES} - {"luab_jax"}))
def test_a_room_imports_only_rooms_below_it(name: str) -> None:
    assert name in ROOMS, f"{name} is new: say in this table what it may import"
    for module in MODULES:
        if room(module) != name:
            continue
        entered = {room(other) for other in imports(module) if other.split(".")[0] in PACKAGES} - {name}
        assert entered <= ROOMS[name], f"{module} may not import {sorted(entered - ROOMS[name])}"


def test_the_table_itself_has_no_circle() -> None:
    order: list[str] = []
    while len(order) < len(ROOMS):
        ready = [name for name in ROOMS if name not in order and ROOMS[name] <= set(order)]
        assert ready, f"a circle among {sorted(set(ROOMS) - set(order))}"
        order += ready


def test_the_map_of_the_code_names_every_room() -> None:
    text = (ROOT / "luab_jax" / "README.md").read_text(encoding="utf-8")
    packages = sorted(path.parent.name for path in (ROOT / "luab_jax").glob("*/__init__.py"))
    assert packages and [name for name in packages if f"`{name}/`" not in text] == []


def test_nothing_in_the_library_knows_its_users() -> None:
    for module in MODULES:
        tops = {name.split(".")[0] for name in imports(module)}
        assert not tops & {"tests", "tools", "benchmarks", "notebooks"}, module
        if module.startswith("luab_jax"):
            assert not tops & {"data_prep", "configs"}, module


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    arrows = {module: {name for name in imports(module) if name in MODULES and name != module} for module in MODULES}
    remaining = dict(arrows)
    while remaining:
        free = [module for module, needed in remaining.items() if not needed & remaining.keys()]
        assert free, f"a circle among {sorted(remaining)}"
        for module in free:
            del remaining[module]


@pytest.mark.parametrize(
    "module",
    [
        "luab_jax.config",
        "luab_jax.config.flags",
        "luab_jax.cli",
        "luab_jax.models.config",
        "luab_jax.augmentation.config",
        "luab_jax.data.worker",
        "luab_jax.data.training_rows",
        "luab_jax.data.evaluation_rows",
        "configs.demo",
    ],
)
def test_configs_helps_and_decoding_workers_need_no_jax(module: str) -> None:
    """Followed through everything that a module imports; jax takes seconds to load, and 200 MB in each worker."""
    seen, waiting = set(), [module]
    while waiting:
        current = waiting.pop()
        if current in MODULES and current not in seen:
            seen.add(current)
            waiting += imports(current)
        assert current.split(".")[0] not in ("jax", "flax", "optax", "orbax", "grain"), f"{module} imports {current}"


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node)


def _safe_names(tree: ast.Module) -> set[str]:
    """Names bound to a file of `atomic_file`, to a file opened below it, or to a buffer in memory."""
    safe: set[str] = set()
    bound: list[tuple[ast.expr, ast.expr]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            bound += [(item.context_expr, item.optional_vars) for item in node.items if item.optional_vars is not None]
        elif isinstance(node, ast.Assign):
            bound += [(node.value, target) for target in node.targets]
    for _ in range(2):  # `file` of `temporary.open("wb") as file`
        for value, target in bound:
            calls = [call for call in ast.walk(value) if isinstance(call, ast.Call)]
            made = any(_dotted(call.func) in ("atomic_file", "io.BytesIO", "BytesIO") for call in calls)
            below = any(isinstance(c.func, ast.Attribute) and _dotted(c.func.value) in safe for c in calls)
            if made or below:
                safe.add(_dotted(target))
    return safe


def _written_by(call: ast.Call) -> ast.expr | None:
    """What a call writes to, if it writes."""
    name = _dotted(call.func)
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    texts = [a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    opens_to_write = any(set(text) <= set("rwaxbt+") and set(text) & set("wax+") for text in texts)
    if method in ("write_text", "write_bytes"):
        return call.func.value  # type: ignore[union-attr]
    if (method == "open" or name == "open") and opens_to_write:
        return call.func.value if method else call.args[0]  # type: ignore[union-attr]
    if name.endswith("ZipFile") and opens_to_write:
        return call.args[0]
    if name in ("np.save", "np.savez", "np.savez_compressed", "cv2.imwrite", "plt.savefig"):
        return call.args[0]
    if name in ("json.dump", "pickle.dump", "shutil.copy", "shutil.copyfile", "shutil.copyfileobj", "shutil.move"):
        return call.args[1]
    if method == "save" and len(call.args) > 1 and not _dotted(call.func.value).endswith("checkpoints"):  # type: ignore[union-attr]
        return call.args[0]
    return None


def strangers_who_write(source: str) -> list[str]:
    tree = ast.parse(source)
    safe = _safe_names(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    targets = [(call, target) for call in calls if (target := _written_by(call)) is not None]
    return [_dotted(call.func) for call, target in targets if _dotted(target) not in safe]


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] in ("luab_jax", "data_prep")])
def test_every_file_is_written_by_the_one_atomic_writer(module: str) -> None:
    found = strangers_who_write(MODULES[module].read_text(encoding="utf-8"))
    if module != WRITER:
        assert set(found) <= WRITES_ITSELF.get(module, set()), f"write by {WRITER} instead"


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text('x')",
        "(folder / 'x').write_bytes(b'')",
        "path.open('w')",
        "open(path, mode='ab')",
        "np.savez(path, a=a)",
        "image.save(path, 'PNG')",
        "json.dump(values, file)",
        "cv2.imwrite(path, image)",
        "zipfile.ZipFile(path, 'w')",
    ],
)
def test_a_stranger_who_writes_is_found(line: str) -> None:
    assert strangers_who_write(line)
    assert not strangers_who_write("with atomic_file(p) as temporary, temporary.open('wb') as f:\n    np.savez(f, a=a)")


def test_only_the_storage_module_makes_paths_absolute() -> None:
    """The methods of pathlib and etils make a path below the working folder of the name of a bucket, silently."""
    methods = {"resolve", "absolute", "abspath", "realpath"}
    found = []
    for module, path in MODULES.items():
        if not module.startswith("luab_jax.") or module == "luab_jax.io.storage":
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        found += [
            f"{module}:{call.lineno}"
            for call in calls
            if isinstance(call.func, ast.Attribute)
            and call.func.attr in methods
            and not (isinstance(call.func.value, ast.Name) and call.func.value.id == "storage")
        ]
    assert not found


def test_every_module_can_be_imported_in_one_process_with_every_other() -> None:
    """And none adds a flag to absl's global set: two commands have flags of the same name."""
    modules = sorted(name for name in MODULES if name.split(".")[0] in ("luab_jax", "data_prep", "configs"))
    program = f"""
import importlib
from absl import flags
before = set(flags.FLAGS)
for name in {modules!r}:
    importlib.import_module(name)
own = {{flag for module, of in flags.FLAGS.flags_by_module_dict().items() if "luab_jax" in module for flag in of}}
assert not own, own
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_text_is_read_as_utf_8_whatever_the_locale() -> None:
    found = []
    for module, path in MODULES.items():
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        texts = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "read_text"]
        found += [f"{module}:{c.lineno}" for c in texts if not c.args and "encoding" not in {k.arg for k in c.keywords}]
    assert not found
