"""`python -m data_prep COMMAND`: raw data in, prepared shards out."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import shlex
import signal
import sys
from pathlib import Path

from data_prep.argument_types import positive, quality
from data_prep.collect import commands as collect
from data_prep.datasets.suites import NAMES as SUITE_NAMES
from data_prep.datasets.suites import options_of
from data_prep.downscale import DEFAULT_QUALITY, Smaller
from data_prep.own_suites import commands as own_suites
from data_prep.writing.workers import default_workers
from luab_jax.errors import DataError, ExitCode, StorageError, UserError
from luab_jax.io import retries, storage
from luab_jax.io.lease import Lease
from luab_jax.io.stdout import quiet_when_unread

_PATHS = (
    *("from", "images", "instances", "byproducts", "annotations", "boxes", "source"),
    *("real", "val_labels", "factors", "prototypes", "font", "masks", "humans", "classes", "out", "directory"),
)
_SUITE_OPTIONS = (
    *("split", "boxes", "real", "val_labels", "password", "strict", "beam_options"),
    *("factors", "prototypes", "font", "masks", "humans"),
    *("generate", "frost", "corruptions"),
)
_OF_SOME_SUITES = (
    *("instances", "boxes", "real", "val_labels", "password", "factors", "prototypes", "font"),
    *("masks", "humans"),
)


def _bytes(text: str) -> int:
    """`1000`, `20M`, `1.5G`, `2T`."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        value = float(number) * 1024 ** ("", "K", "M", "G", "T").index(unit)
    except ValueError:
        value = 0
    if not 1 <= value < 1 << 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes such as 500G")
    return int(value)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def _columns(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=VALUE")
    return name, value


def _split_name(text: str) -> str:
    if not text.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r}: letters, digits and _ only")
    return text


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m data_prep", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    workers = argparse.ArgumentParser(add_help=False)
    workers.add_argument("--workers", type=positive, default=default_workers(), help="processes (default: all cores)")

    with_beam = argparse.ArgumentParser(add_help=False, parents=[workers])
    with_beam.add_argument(
        "--beam_options",
        type=lambda text: tuple(shlex.split(text)),
        metavar="FLAGS",
        help='work on the shards with Apache Beam; flags of its pipeline: "--runner=DataflowRunner --project=..."',
    )
    writers = argparse.ArgumentParser(add_help=False, parents=[with_beam])

    stored = argparse.ArgumentParser(add_help=False)
    stored.add_argument("--max_side", type=positive, help="store images with at most so many pixels on the longer side")
    stored.add_argument("--quality", type=quality, help=f"JPEG quality with --max_side (default: {DEFAULT_QUALITY})")

    stored.add_argument(
        "--no_decode_check",
        dest="decode",
        action="store_false",
        help="look at headers alone: damaged photos then pass, and stop a training later",
    )

    stored.add_argument(
        "--max_unpacked",
        type=_bytes,
        metavar="BYTES",
        help="what a compressed archive may unpack to, such as 500G (default: 250 times its size, and 2T)",
    )

    ab = commands.add_parser("imagenet_ab", parents=[writers, stored], help="class folders and ImageNet-AB byproducts")
    ab.add_argument("--images", required=True, help="folder or archive of <class>/<image>, or ILSVRC2012_img_val.tar")
    ab.add_argument("--byproducts", help="folder or archive of <class>/<image name>.xml")
    ab.add_argument("--out", required=True, help="prepared directory; several splits may share one")
    ab.add_argument("--split", type=_split_name, default="train")
    ab.add_argument("--boxes", help="folder or archive of <class>/<image>.xml or <image>.xml; or <class>.txt, one .txt")
    ab.add_argument("--val_labels", help="lines `name wnid` for validation images without classes (default: built in)")
    ab.add_argument("--classes", default="imagenet", help="`imagenet`, or a file of lines `id TAB name` in label order")
    ab.add_argument("--shards", type=positive, help="number of shards (default: about 1,250 images in each)")
    ab.add_argument("--strict", action="store_true", help="fail if any input is skipped or damaged")
    ab.add_argument("--min_match", type=_share, default=0.5, help="least share of images and byproducts that match")

    suite = commands.add_parser("suite", parents=[writers, stored], help="the data of an evaluation suite")
    suite.add_argument("name", choices=SUITE_NAMES, metavar="NAME", help=", ".join(SUITE_NAMES))
    suite.add_argument("--source", required=True, help="the archive as downloaded, or the folder it unpacks to")
    suite.add_argument("--out", required=True, help="folder of all prepared suites; this one goes to OUT/NAME")
    suite.add_argument("--split", type=_split_name, help="only this variant, or which one it is (default: all found)")
    suite.add_argument("--boxes", help="imagenet_localisation: ILSVRC2012_bbox_val_v3.tgz, its folder, or text")
    suite.add_argument(
        "--instances", help="coco: instances_val2014.json, or the zip that holds it (default: looked for)"
    )
    suite.add_argument("--real", help="imagenet, imagenet_real: real.json")
    suite.add_argument("--factors", help="imagenet_x: imagenet_x_val_multi_factor.jsonl, or ..._top_factor.jsonl")
    suite.add_argument("--font", help="imagenet_w: SourceHanSerifSC-ExtraLight.otf")
    suite.add_argument("--masks", help="hard_imagenet: hardImageNet.zip")
    suite.add_argument("--humans", help="cue_conflict: raw-data/cue-conflict, what people answered")
    suite.add_argument("--prototypes", help="imagenet_x: prototypical_paths.csv, whose images are left out")
    suite.add_argument("--val_labels", help="imagenet: lines `name wnid` (default: built in)")
    suite.add_argument("--password", help="objectnet: the phrase printed on its download page")
    suite.add_argument("--generate", action="store_true", help="imagenet_c: made of ILSVRC's val images in --source")
    suite.add_argument("--frost", help="--generate: folder of the photos of frost (default: package imagecorruptions)")
    suite.add_argument("--corruptions", help="--generate: only these kinds, with commas between (default: all 19)")
    suite.add_argument("--shards", type=positive, help="number of shards of each split")
    suite.add_argument("--strict", action="store_true", help="fail if any input is skipped or damaged")

    own = commands.add_parser("folder", parents=[writers, stored], help="class folders of your own")
    own.add_argument("--source", required=True, help="folder or archive of <class>/<image>")
    own.add_argument("--out", required=True, help="prepared directory; several splits may share one")
    own.add_argument("--split", type=_split_name, default="train")
    own.add_argument("--byproducts", help="clicks: .csv or .jsonl with file_name, x, y; or <class>/<image name>.xml")
    own.add_argument("--annotations", help="labels, groups, boxes, masks by file name: .csv or .jsonl")
    own.add_argument("--file_name", default="file_name", metavar="COLUMN", help="of --annotations, with the file names")
    own.add_argument(
        "--label", metavar="COLUMN", help="with the class, or classes with | between (default: the folder)"
    )
    own.add_argument("--groups", type=_columns, default=(), metavar="A,B", help="columns whose values name the group")
    own.add_argument(
        "--where", type=_condition, action="append", default=[], metavar="COLUMN=VALUE", help="only such rows"
    )
    own.add_argument("--classes", help="lines `id TAB name` in label order (default: SOURCE/classes.txt, folder names)")
    own.add_argument("--shards", type=positive, help="number of shards (default: about 1,250 images in each)")
    own.add_argument("--strict", action="store_true", help="fail if any input is skipped or damaged")
    coco = commands.add_parser("coco_ab", parents=[writers, stored], help="COCO, and COCO-AB byproducts")
    coco.add_argument("--images", required=True, help="folder or archive of the images that the instances file names")
    coco.add_argument("--instances", required=True, help="instances_train2014.json or alike")
    coco.add_argument("--byproducts", help="coco_ab_v1_0.json")
    coco.add_argument("--out", required=True, help="prepared directory; several splits may share one")
    coco.add_argument("--split", type=_split_name, default="train")
    coco.add_argument("--classes", default="coco", help="`coco`: all 80, or a file of COCO names in label order")
    coco.add_argument("--shards", type=positive, help="number of shards (default: about 1,250 images in each)")
    coco.add_argument("--strict", action="store_true", help="fail if any input is skipped or damaged")
    coco.add_argument("--min_match", type=_share, default=0.5, help="least share of images and records that match")

    demo = commands.add_parser("demo", parents=[workers], help="the drawn data set, with simulated clicks")
    demo.add_argument("--out", required=True)
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument(
        "--correlation", type=_share, default=0.75, help="share of images on their class's own background"
    )
    demo.add_argument("--num_train", type=positive, help="training images (default: 4000)")
    demo.add_argument(
        "--num_val", type=positive, help="validation images (default: 1000), and the most in a group of a suite"
    )
    demo.add_argument("--side", type=positive, help="pixels")

    inspect = commands.add_parser("inspect", parents=[with_beam], help="what a directory holds, as text and as a page")
    inspect.add_argument("directory", help="prepared by data_prep or by TFDS")
    inspect.add_argument("--split", help="only this one (default: all)")
    inspect.add_argument("--html", help="also write a page of images with clicks, traces, boxes and masks to this file")
    inspect.add_argument(
        "--show_workers", action="store_true", help="name annotators on the page by their ids (default: hidden)"
    )
    inspect.add_argument(
        "--images", dest="num_images", type=positive, default=60, help="images of each split on the page"
    )
    inspect.add_argument("--seed", type=int, default=0, help="chooses these images")

    verify = commands.add_parser("verify", parents=[with_beam], help="check every record: CRC, schema, image header")
    verify.add_argument("directory")
    verify.add_argument("--no_decode_check", dest="decode", action="store_false", help="look at image headers alone")
    own_suites.add_parser(commands)
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    collect.add_parser(commands)
    return root


def _read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """What `parse_args` does, but an unknown flag is refused with the nearest one of the command."""
    arguments, unknown = parser().parse_known_args(argv)
    if unknown:
        near = difflib.get_close_matches(unknown[0].partition("=")[0], [f"--{name}" for name in vars(arguments)], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return arguments


def run(arguments: argparse.Namespace) -> ExitCode:
    """Carries out one command; raises `UserError`."""
    match arguments.command:
        case "imagenet_ab":
            _imagenet_ab(arguments)
        case "coco_ab":
            _coco_ab(arguments)
        case "suite":
            _check_suite_options(arguments)
            (_coco_suite if arguments.name == "coco" else _suite)(arguments)
        case "folder":
            _folder(arguments)
        case "demo":
            from data_prep.commands import demo

            names = ("num_train", "num_val", "side")
            sizes = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
            demo(
                Path(arguments.out),
                workers=arguments.workers,
                seed=arguments.seed,
                correlation=arguments.correlation,
                **sizes,
            )
        case "inspect":
            _inspect(arguments)
        case "verify":
            from data_prep.verify import verify

            checked = verify(
                storage.place(arguments.directory),
                workers=arguments.workers,
                decode=arguments.decode,
                beam_options=arguments.beam_options,
            )
            print("\n".join([*checked.lines, f"{arguments.directory}: {checked}"]))
            if failures := checked.failures():
                remedy = "delete the manifest of the split, and give the command again that prepared it"
                raise UserError(f"{arguments.directory}: {failures} fail; {remedy}")
            print("every record is as it was written")
        case "collect":
            return collect.run(arguments)
        case name if name in own_suites.FOLDERS:
            own_suites.run(arguments)
    return ExitCode.DONE


def _smaller(arguments: argparse.Namespace) -> Smaller | None:
    if arguments.max_side is None:
        if arguments.quality is not None:
            raise UserError(
                "--quality: images keep their bytes unless --max_side makes them smaller; give both or none"
            )
        return None
    return Smaller(arguments.max_side, arguments.quality or DEFAULT_QUALITY)


def _check_suite_options(arguments: argparse.Namespace) -> None:
    """Refuses an option that this suite would not look at."""
    name, generated = arguments.name, arguments.generate
    if generated and name != "imagenet_c":
        raise UserError(f"--generate makes imagenet_c, not {name}")
    if (arguments.frost or arguments.corruptions) and not generated:
        raise UserError("--frost and --corruptions say how to make imagenet_c: they need --generate")
    used = options_of(name, generated=generated)
    for option in _OF_SOME_SUITES:
        if getattr(arguments, option) is not None and option not in used:
            looked_at = ", but at " + " and ".join(f"--{other}" for other in used) if used else ""
            raise UserError(f"--{option}: suite {name} does not look at it{looked_at}; leave it out")


def _imagenet_ab(arguments: argparse.Namespace) -> None:
    from data_prep.commands import Job, open_inputs, prepare_folders
    from data_prep.sources.scratch_tar import Scratch
    from luab_jax.data.class_lists import read_class_list

    classes, out = read_class_list(arguments.classes), storage.place(arguments.out)
    inputs = open_inputs(
        arguments.images,
        arguments.byproducts,
        arguments.boxes,
        classes,
        out=Scratch(out, arguments.max_unpacked),
        val_labels=arguments.val_labels,
        prefer_flat=arguments.split == "val",
    )
    job = Job(
        out=out,
        split=arguments.split,
        dataset="imagenet_ab",
        classes=classes,
        num_shards=arguments.shards,
        workers=arguments.workers,
        strict=arguments.strict,
        beam_options=arguments.beam_options,
        smaller=_smaller(arguments),
        decode=arguments.decode,
        max_unpacked=arguments.max_unpacked,
    )
    prepare_folders(inputs, job, min_match=arguments.min_match)


def _suite(arguments: argparse.Namespace) -> None:
    from data_prep.suite_commands import SuiteOptions, prepare_suite

    options = SuiteOptions(
        num_shards=arguments.shards,
        smaller=_smaller(arguments),
        decode=arguments.decode,
        max_unpacked=arguments.max_unpacked,
        **{name: getattr(arguments, name) for name in _SUITE_OPTIONS},
    )
    prepare_suite(arguments.name, arguments.source, storage.place(arguments.out), options, workers=arguments.workers)


def _coco_suite(arguments: argparse.Namespace) -> None:
    from data_prep.datasets.coco_suite import prepare_coco_suite

    prepare_coco_suite(
        arguments.source,
        arguments.instances,
        storage.place(arguments.out),
        split=arguments.split or "val",
        workers=arguments.workers,
        num_shards=arguments.shards,
        strict=arguments.strict,
        beam_options=arguments.beam_options,
        smaller=_smaller(arguments),
        decode=arguments.decode,
        max_unpacked=arguments.max_unpacked,
    )


def _folder(arguments: argparse.Namespace) -> None:
    from data_prep.annotations.image_tables import Columns
    from data_prep.commands import Job, prepare_annotated, prepare_own
    from luab_jax.data.class_lists import ClassList

    out = storage.place(arguments.out)

    def job(classes: ClassList) -> Job:
        return Job(
            out=out,
            split=arguments.split,
            dataset="folder",
            classes=classes,
            num_shards=arguments.shards,
            workers=arguments.workers,
            strict=arguments.strict,
            beam_options=arguments.beam_options,
            smaller=_smaller(arguments),
            decode=arguments.decode,
            max_unpacked=arguments.max_unpacked,
        )

    limit = arguments.max_unpacked
    if arguments.annotations is not None:
        if arguments.byproducts is not None:
            raise UserError(
                "--annotations and --byproducts: give one of them; clicks of images in a table are not read"
            )
        columns = Columns(
            file_name=arguments.file_name, label=arguments.label, groups=arguments.groups, where=tuple(arguments.where)
        )
        table = arguments.annotations
        prepare_annotated(arguments.source, table, columns, arguments.classes, job, out=out, max_unpacked=limit)
        return
    if arguments.label or arguments.groups or arguments.where:
        raise UserError("--label, --groups and --where name columns of --annotations=FILE, which is missing")
    prepare_own(arguments.source, arguments.byproducts, arguments.classes, job, out=out, max_unpacked=limit)


def _coco_ab(arguments: argparse.Namespace) -> None:
    from data_prep.commands import Job, prepare_coco
    from luab_jax.data.class_lists import read_class_list
    from luab_jax.data.coco_classes import coco

    job = Job(
        out=storage.place(arguments.out),
        split=arguments.split,
        dataset="coco_ab",
        classes=coco() if arguments.classes == "coco" else read_class_list(arguments.classes),
        num_shards=arguments.shards,
        workers=arguments.workers,
        strict=arguments.strict,
        beam_options=arguments.beam_options,
        smaller=_smaller(arguments),
        decode=arguments.decode,
        max_unpacked=arguments.max_unpacked,
    )
    prepare_coco(
        arguments.images,
        _file(arguments.instances, "--instances"),
        _file(arguments.byproducts, "--byproducts") if arguments.byproducts else None,
        job,
        min_match=arguments.min_match,
    )


def _inspect(arguments: argparse.Namespace) -> None:
    from data_prep.inspect.directory import Gallery, inspect

    gallery = None
    if arguments.html is not None:
        gallery = Gallery(
            path=storage.place(arguments.html),
            num_images=arguments.num_images,
            seed=arguments.seed,
            show_workers=arguments.show_workers,
        )
    print(
        inspect(
            storage.place(arguments.directory),
            workers=arguments.workers,
            split=arguments.split,
            gallery=gallery,
            beam_options=arguments.beam_options,
        )
    )
    if gallery is not None:
        facts = storage.facts(gallery.path)
        assert facts is not None
        print(f"\n{gallery.path}: a page that any browser opens, {facts.size / 1e6:.1f} MB")


def _check_paths(arguments: argparse.Namespace) -> None:
    """Refuses an empty path, a bucket that cannot be reached, and an --out that is a file, before any work."""
    for name in (*_PATHS, "frost", "html"):
        if getattr(arguments, name, None) == "":
            raise UserError(f"{'the directory' if name == 'directory' else f'--{name}='} is empty; expected a path")
    if storage.is_remote(getattr(arguments, "frost", None) or ""):
        raise UserError(f"--frost={arguments.frost}: the photos of frost are read from a local folder; copy them there")
    for name in _PATHS:
        value = getattr(arguments, name, None)
        if value is not None and storage.is_remote(value):
            try:
                storage.facts(storage.place(value))
            except StorageError as e:
                raise StorageError(str(e) if name == "directory" else f"--{name}={e}") from e
    out = storage.place(getattr(arguments, "out", "."))
    if storage.is_remote(out):
        if arguments.command == "demo":
            raise UserError(f"--out={out}: the demo is drawn on a local disk")
        return
    is_folder = getattr(arguments, "collect_command", "") != "backup"  # which writes a file
    for path in (out, *out.parents) if is_folder else out.parents:
        if path.is_file():
            raise DataError(f"--out={out}: {path} is a file, expected a folder")


def _lease(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[object]:
    """Of the prepared directory that a command writes; those that only read need none."""
    if not hasattr(arguments, "out") or arguments.command == "collect":  # whose exports appear as a whole
        return contextlib.nullcontext()
    out = storage.place(arguments.out)
    directory = out / arguments.name if arguments.command == "suite" else out
    if arguments.command in own_suites.FOLDERS:
        directory = own_suites.folder_of(arguments)
    return Lease(directory, remedy="choose another --out")


def _file(path: str, flag: str) -> storage.Place:
    """A file given by a flag; raises `DataError` that says what is there instead."""
    file = storage.place(path)
    facts = storage.facts(file)
    if facts is None or facts.is_folder:
        raise DataError(f"{flag}={path}: {'no such file' if facts is None else 'a folder, expected a file'}")
    return file


def main(argv: list[str] | None = None) -> int:
    """Runs a command, and turns its end into an exit code."""
    arguments = _read_arguments(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # no name that a terminal cannot show may cost a summary
        sys.stdout.reconfigure(errors="backslashreplace")
    # A scheduler's SIGTERM ends as softly as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    retries.forget()  # of a command that this process ran before
    try:
        with retries.told():
            _check_paths(arguments)
            with _lease(arguments):
                return run(arguments)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        if arguments.command in ("inspect", "verify"):
            print("stopped; nothing was changed", file=sys.stderr)
        elif arguments.command == "collect":
            print("stopped; run the same command again", file=sys.stderr)
        else:
            print("stopped; finished shards are kept, and the same command goes on from there", file=sys.stderr)
        return ExitCode.STOPPED_RESUMABLE


def _in_utf8() -> None:
    """Starts again in Python's UTF-8 mode where the locale has another encoding: names of files would be garbled."""
    if sys.getfilesystemencoding().lower() != "utf-8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


if __name__ == "__main__":
    _in_utf8()
    with quiet_when_unread():
        sys.exit(main())
