"""`collect init`: a new project."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from data_prep.collect import config as configs
from data_prep.collect.classes import (
    WORDNET,
    ClassInfo,
    coco_classes,
    imagenet_classes,
    read_classes,
    read_similar,
    write_classes,
)
from data_prep.collect.config import Config
from data_prep.collect.project import Project
from data_prep.collect.sqlite import refuse_network
from data_prep.collect.web.tokens import hash_password
from data_prep.datasets.class_folders import class_root
from data_prep.datasets.coco_ab import image_root
from data_prep.sources.archive_tree import open_source
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.errors import DataError
from luab_jax.io import storage
from luab_jax.io.atomic import write_bytes, write_text

_PASSWORD_BYTES = 12


def initialise(
    folder: Path, config: Config, *, class_file: Path | None, wordnet: Path = WORDNET, similar: Path | None = None
) -> tuple[Project, str]:
    """Makes the folder, the database and the secrets; returns the project and the owner's password, shown only now.

    `config.classes` says which classes; those of `class_file` are the project's own, unless its ids are those of
    ImageNet or COCO. Raises `DataError` for pictures or classes that do not fit, before anything is made.
    """
    folder = folder.absolute()
    if (folder / "project.toml").exists():
        raise DataError(f"{folder}: is a project already")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty; give a new folder")
    if config.db == configs.SQLITE:
        refuse_network(_nearest(folder))
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _fill(folder, config, class_file, wordnet, similar)
    except BaseException:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if made:
            folder.rmdir()
        raise


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _fill(
    folder: Path, config: Config, class_file: Path | None, wordnet: Path, similar: Path | None
) -> tuple[Project, str]:
    images = str(storage.absolute(storage.place(config.images)))
    instances = str(Path(config.instances).absolute()) if config.instances else ""
    if instances and not Path(instances).is_file():
        raise DataError(f"--instances={instances}: no such file")
    classes = _classes(images, config, class_file, wordnet, folder / "scratch")
    ids = {info.id for info in classes}
    own = not ids <= set(imagenet().ids) if config.task == "imagenet" else ids != {info.id for info in coco_classes()}
    kind = "own" if own else "imagenet" if config.task == "imagenet" else "coco"
    config = configs.replace(config, images=images, instances=instances, classes=kind)
    project = Project(folder, config)
    if similar is not None:
        read_similar(similar, ids)
        write_bytes(folder / "similar.txt", similar.read_bytes())
    write_classes(classes, project.classes_path)
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    project.write_secrets(owner_hash=hash_password(password))
    project.engine().create()
    write_text(project.config_path, configs.dumps(config))
    if not project.is_sqlite:
        project.config_path.chmod(0o600)  # the address may hold a password
    return project, password


def _classes(images: str, config: Config, class_file: Path | None, wordnet: Path, scratch: Path) -> list[ClassInfo]:
    """A file's, or those of the folders, or COCO's; checked against the pictures."""
    source = open_source(images, "--images", scratch=scratch)
    if config.task == "coco":
        root = image_root(source)
        if not root.files():
            raise DataError(f"{root.place}: holds no pictures; expected .jpg, .jpeg or .png files in one folder")
        return read_classes(class_file) if class_file else coco_classes()
    if class_file is not None:
        found = read_classes(class_file)
    else:
        folders = class_root(source, imagenet()).folders()
        if not folders:
            raise DataError(f"{source.place}: holds no class folders; expected <class>/<image>")
        found = _of_folders(folders, wordnet)
    root = class_root(source, ClassList(tuple(c.id for c in found), tuple(c.name for c in found)))
    if not set(root.folders()) & {info.id for info in found}:
        raise DataError(f"{root.place}: none of its folders {root.folders()[:5]} is a class; correct --classes")
    return found


def _of_folders(folders: list[str], wordnet: Path) -> list[ClassInfo]:
    """ImageNet's classes with names and glosses of WordNet; other folders are called what they are called."""
    if set(folders) <= set(imagenet().ids):
        return [info for info in imagenet_classes(wordnet) if info.id in set(folders)]
    return [ClassInfo(name, " ".join(name.replace("_", " ").split()) or name) for name in folders]
