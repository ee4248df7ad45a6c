"""`python -m data_prep collect COMMAND PROJECT`: byproducts from annotators, from the first link to the export."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_prep.argument_types import natural, positive
from data_prep.collect.config import PLATFORMS, SQLITE, TASKS, Config
from data_prep.collect.project import Project, now_ms, open_project
from data_prep.collect.store import Store
from luab_jax.errors import ExitCode, UserError
from luab_jax.io import storage
from luab_jax.io.wording import counted, how_to_install

_OF_EXTRA = ("argon2", "itsdangerous", "starlette", "uvicorn")
"""Packages that the extra `collect` brings; a plain installation lacks them."""

_DEFAULT_PORT = 8000


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _controls(text: str) -> tuple[int, int]:
    parts = text.split("+")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected POSITIVE+NEGATIVE, such as 3+3")
    return int(parts[0]), int(parts[1])


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds `collect` to the commands of `data_prep`."""
    collect = commands.add_parser("collect", help="collect annotation byproducts with the two annotation pages")
    collect.set_defaults(parser=collect)
    of_collect = collect.add_subparsers(dest="collect_command", required=True, metavar="COMMAND")
    for add in (
        _add_init,
        _add_plan,
        _add_serve,
        _add_invite,
        _add_status,
        _add_export,
        _add_others,
        _add_simulate,
        _add_demo,
    ):
        add(of_collect)
    for command in of_collect.choices.values():
        command.set_defaults(parser=command)


def _command(commands: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("project", metavar="PROJECT", help="folder of the project")
    return command


def _add_init(commands: argparse._SubParsersAction) -> None:
    init = _command(commands, "init", "make a project")
    init.add_argument("--task", choices=TASKS, required=True, help="browse and select, or drag and drop")
    init.add_argument("--images", required=True, help="folder or archive: <class>/<image>, for coco one folder")
    init.add_argument("--classes", help="lines `id TAB name, synonyms TAB gloss TAB set` (default: folders; COCO's 80)")
    init.add_argument("--db", default=SQLITE, help="`sqlite` (default), or postgresql://USER@HOST/NAME")
    init.add_argument("--title", help="what annotators see (default: name of the folder)")
    init.add_argument("--contact", default="", help="an address for questions, on the consent page")
    init.add_argument("--instances", help="coco: instances file, for image ids and practice")
    init.add_argument("--wordnet", help="WordNet 3.0's data.noun (default: that of Debian's wordnet-base)")
    init.add_argument("--similar", help="lines `class TAB similar classes` for negative controls")
    init.add_argument("--lease_minutes", type=positive, default=30, help="a page is given to others after so long")
    init.add_argument("--no_practice", action="store_true", help="start without the practice page")


def _add_plan(commands: argparse._SubParsersAction) -> None:
    plan = _command(commands, "plan", "cut the pictures into pages; run it again when pictures were added")
    plan.add_argument("--overlap", type=positive, help="annotators for each page (default: as it is; 1 at first)")
    plan.add_argument("--page_size", type=positive, help="imagenet: pictures on a page (48)")
    plan.add_argument("--controls", type=_controls, help="imagenet: hidden positive and negative controls (3+3)")
    plan.add_argument("--distractors", type=natural, help="imagenet: pictures of other classes on a page (0)")
    plan.add_argument("--pages_per_hit", type=positive, help="pages that share a hit id (10; coco 20)")
    plan.add_argument("--images_per_class", type=natural, help="only so many of each class (coco: in all); 0: all")
    plan.add_argument("--seed", type=natural)
    plan.epilog = "What is not given stays as an earlier `plan` had it."


def _add_serve(commands: argparse._SubParsersAction) -> None:
    serve = _command(commands, "serve", "serve the pages until Ctrl-C")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    serve.add_argument("--port", type=_port, default=_DEFAULT_PORT, help="0: any free one")
    serve.add_argument("--public_url", default="", help="what annotators type, if a proxy is in front: https://...")
    serve.add_argument("--trusted_proxies", default="", help="addresses whose X-Forwarded-* headers are believed")
    serve.add_argument("--new_password", action="store_true", help="make and print a new password for the owner")


def _add_invite(commands: argparse._SubParsersAction) -> None:
    invite = _command(commands, "invite", "print links for annotators")
    invite.add_argument("--number", type=positive, default=1, help="links, one for each annotator")
    invite.add_argument("--platform", choices=PLATFORMS, default="none", help="one link for all of a platform")
    invite.add_argument("--public_url", default="", help=f"as of serve (default: http://127.0.0.1:{_DEFAULT_PORT})")


def _add_status(commands: argparse._SubParsersAction) -> None:
    status = _command(commands, "status", "progress, quality and agreement")
    status.add_argument("--json", action="store_true", help="everything, as JSON")


def _add_export(commands: argparse._SubParsersAction) -> None:
    export = _command(commands, "export", "ImageNet-AB XML or COCO-AB JSON, and the command that prepares it")
    export.add_argument("--out", required=True, help="folder; an earlier export there is replaced")
    export.add_argument("--prepared", help="--out of the printed command (default: beside OUT)")
    export.add_argument("--events", action="store_true", help="also the whole log, as events.jsonl.gz")
    export.add_argument("--include_blocked", action="store_true", help="also work of blocked annotators")


def _add_others(commands: argparse._SubParsersAction) -> None:
    backup = _command(commands, "backup", "one file that `restore` makes a project of; the server may run")
    backup.add_argument("--out", required=True, help="a .zip")
    restore = _command(commands, "restore", "make a project of a backup")
    restore.add_argument("--source", required=True, help="the .zip")
    restore.add_argument("--db", default="", help="of a PostgreSQL project: the database to restore into")
    restore.add_argument("--overwrite", action="store_true", help="replace a project that is there")
    forget = _command(commands, "forget", "cut the tie between an annotator and the platform's id")
    forget.add_argument("worker", metavar="WORKER", help="the platform's id, or the id that status lists")
    forget.add_argument("--erase", action="store_true", help="remove the annotator's work as well")


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser("demo", help="try the pages: drawn pictures, planned and served")
    demo.add_argument("project", metavar="DIR", help="folder for the pictures and the project; may be there already")
    demo.add_argument("--host", default="127.0.0.1")
    demo.add_argument("--port", type=_port, default=_DEFAULT_PORT, help="0: any free one")
    demo.add_argument("--seed", type=natural, default=0)
    demo.add_argument("--no_serve", action="store_true", help="only make the project")


def _add_simulate(commands: argparse._SubParsersAction) -> None:
    simulate = _command(commands, "simulate", "simulated annotators, for rehearsals; use a copy of the project")
    simulate.add_argument("--annotators", type=positive, default=3)
    simulate.add_argument("--pages", type=positive, help="of each annotator (default: until there are none)")
    simulate.add_argument("--url", default="", help="a server that runs (default: one is started on a free port)")
    simulate.add_argument("--faults", default="", help="lost,repeat,reorder,tabs,abandon,skew,garbage, or all")
    simulate.add_argument("--speed", type=float, default=0.0, help="1: as fast as people; 0: no waiting")
    simulate.add_argument("--browser", action="store_true", help="in Chromium, one for each annotator, instead of HTTP")
    simulate.add_argument("--ledger", help="file that gets what each annotator meant, as JSON lines")
    simulate.add_argument("--seed", type=natural, default=0)
    simulate.add_argument("--with_real_annotators", action="store_true", help="also in a project that people work on")


def run(arguments: argparse.Namespace) -> ExitCode:
    """Carries out one command; raises `UserError`."""
    try:
        _run(arguments)
    except ModuleNotFoundError as e:
        if e.name is None or e.name.partition(".")[0] not in _OF_EXTRA:
            raise
        raise UserError(
            f"collect {arguments.collect_command} needs the package {e.name}: {how_to_install('collect')}"
        ) from e
    return ExitCode.DONE


def _run(arguments: argparse.Namespace) -> None:
    name = arguments.collect_command
    if name == "init":
        _init(arguments)
    elif name == "restore":
        _restore(arguments)
    elif name == "demo":
        _demo(arguments)
    else:
        project = open_project(arguments.project)
        _COMMANDS[name](project, arguments)


def _init(arguments: argparse.Namespace) -> None:
    from data_prep.collect.classes import WORDNET
    from data_prep.collect.setup_project import initialise

    if arguments.task == "imagenet" and arguments.instances:
        raise UserError("--instances: the imagenet page has no use for it; leave it out")
    folder = Path(arguments.project)
    config = Config(
        title=arguments.title or folder.absolute().name,
        task=arguments.task,
        images=arguments.images,
        classes="own",
        db=arguments.db,
        instances=arguments.instances or "",
        contact=arguments.contact,
        lease_minutes=arguments.lease_minutes,
        practice=not arguments.no_practice,
    )
    project, password = initialise(
        folder,
        config,
        class_file=Path(arguments.classes) if arguments.classes else None,
        wordnet=Path(arguments.wordnet) if arguments.wordnet else WORDNET,
        similar=Path(arguments.similar) if arguments.similar else None,
    )
    print(f"{project.folder}: {len(project.classes)} classes ({project.config.classes}), {project.engine().name}")
    print(f"{project.config_path}: texts, consent and rules; edit it before the first annotator")
    print(f"password of the owner's page, shown only now: {password}")
    print(f"next: python -m data_prep collect plan {arguments.project} --overlap=2")


def _plan(project: Project, arguments: argparse.Namespace) -> None:
    from data_prep.collect.plan import PlanOptions, kept_options, plan
    from data_prep.collect.tasks import PageRule

    config = project.config
    if config.task == "coco":
        for option in ("page_size", "controls"):
            if getattr(arguments, option) is not None:
                raise UserError(f"--{option}: a page of the coco task is one picture; give --pages_per_hit instead")
    positive, negative = arguments.controls or (None, None)
    with project.open_store() as store:
        kept = kept_options(store)

        def chosen(name: str, given: int | None, default: int) -> int:
            return kept.get(name, default) if given is None else given

        options = PlanOptions(
            overlap=arguments.overlap,
            rule=PageRule(
                page_size=chosen("page_size", arguments.page_size, 48),
                positive=chosen("positive", positive, 3),
                negative=chosen("negative", negative, 3),
                distractors=chosen("distractors", arguments.distractors, 0),
                seed=chosen("seed", arguments.seed, 0),
            ),
            pages_per_hit=chosen("pages_per_hit", arguments.pages_per_hit, config.pages_per_hit),
            similar="yes" if (project.folder / "similar.txt").is_file() else "",
            images_per_class=chosen("images_per_class", arguments.images_per_class, 0),
        )
        done = plan(project, store, options)
    roles = ", ".join(f"{number:,} {role}" for role, number in sorted(done.roles.items()))
    pages = f"{counted(done.pages, 'new page')} ({roles or 'no new picture'}); {counted(done.all_pages, 'page')}"
    print(f"{pages}, overlap {done.overlap}")
    for names, what in (
        (done.empty_classes, "classes without a picture, so without a page"),
        (done.shared_names, "pictures left out, since another of the same class differs by its suffix alone"),
        (done.not_in_instances, "pictures left out, since the instances file does not name them"),
    ):
        if names:
            print(f"{len(names)} {what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
    if done.moved:
        print("the pictures are read from another place now: restart the server if it runs")
    if done.ignored_files:
        print(f"{done.ignored_files:,} files that are no pictures were ignored")
    print(f"next: python -m data_prep collect serve {arguments.project}")


def _demo(arguments: argparse.Namespace) -> None:
    from data_prep.collect.demo import make

    project, password = make(Path(arguments.project), arguments.seed)
    if password:
        print(f"password of the owner's page, shown only now: {password}")
    if arguments.no_serve:
        print(f"next: python -m data_prep collect serve {project.folder}")
    else:
        _serve_until_stopped(project, arguments.host, arguments.port, is_demo=True)


def _serve(project: Project, arguments: argparse.Namespace) -> None:
    if arguments.public_url and not arguments.public_url.startswith(("http://", "https://")):
        raise UserError(f"--public_url={arguments.public_url}: expected http://... or https://...")
    if arguments.new_password:
        _new_password(project)
    _serve_until_stopped(project, arguments.host, arguments.port, arguments.public_url, arguments.trusted_proxies)


def _serve_until_stopped(
    project: Project, host: str, port: int, public_url: str = "", trusted_proxies: str = "", *, is_demo: bool = False
) -> None:
    from data_prep.collect.web.server import serve
    from data_prep.collect.web.site import Site

    def ready(site: Site) -> None:
        print(f"serving {project.config.title!r} at {site.public_url} (owner's page: {site.public_url}/owner/)")
        if is_demo:
            print(f"a new annotator's link: {site.invite(1)[0]}", flush=True)
            return
        local = site.public_url == f"http://127.0.0.1:{_DEFAULT_PORT}"
        url = "" if local else f" --public_url={site.public_url}"
        print(f"links for annotators: python -m data_prep collect invite {project.folder}{url}", flush=True)

    try:
        serve(project, host=host, port=port, public_url=public_url, trusted_proxies=trusted_proxies, ready=ready)
    except KeyboardInterrupt:  # once uvicorn has finished its requests
        print("stopped; all work received so far is saved", file=sys.stderr)


def _new_password(project: Project) -> None:
    import secrets

    from data_prep.collect.web.tokens import hash_password

    password = secrets.token_urlsafe(12)
    project.write_secrets(owner_hash=hash_password(password), key=project.secret)
    print(f"password of the owner's page, shown only now: {password}")


def _invite(project: Project, arguments: argparse.Namespace) -> None:
    from data_prep.collect.platforms import invitation, mturk
    from data_prep.collect.store import get_meta, set_meta
    from data_prep.collect.web.site import Site

    url = arguments.public_url or f"http://127.0.0.1:{_DEFAULT_PORT}"
    platform = arguments.platform
    with project.open_store() as store:
        site = Site(project, store, public_url=url)
        if platform == "none":
            print("\n".join(site.invite(arguments.number)))
            _say_next_of_invite(store, arguments)
            return
        known = {*filter(None, store.read(lambda tx: get_meta(tx, "platforms")).split(",")), platform}
        store.do(lambda tx: set_meta(tx, "platforms", ",".join(sorted(known))))
        link = invitation(platform, url, site.tokens.entrance(platform))
        print(link)
        _say_next_of_invite(store, arguments)
    if platform == "mturk" and url.startswith("https"):
        print(mturk.external_question(link))
    print("restart the server, so that it lets the platform's pages in", file=sys.stderr)


def _say_next_of_invite(store: Store, arguments: argparse.Namespace) -> None:
    """On stderr, so that the links alone can be piped."""
    if store.read(lambda tx: tx.rows("SELECT 1 FROM task WHERE practice = 0 LIMIT 1")):
        print(f"next: python -m data_prep collect serve {arguments.project}", file=sys.stderr)
    else:
        print("no pages yet: annotators who open a link now find nothing to do", file=sys.stderr)
        print(f"next: python -m data_prep collect plan {arguments.project}", file=sys.stderr)


def _status(project: Project, arguments: argparse.Namespace) -> None:
    from data_prep.collect import status

    with project.open_store() as store:
        found = status.facts(project, store)
    print(status.as_json(found) if arguments.json else status.text(found))


def _check_local(out: str) -> None:
    if not out:
        raise UserError("--out= is empty; expected a path")
    if storage.is_remote(out):
        raise UserError(f"--out={out}: expected a path on a local disk; copy it into the bucket afterwards")


def _export(project: Project, arguments: argparse.Namespace) -> None:
    from data_prep.collect.export import export

    _check_local(arguments.out)
    with project.open_store() as store:
        done = export(
            project,
            store,
            Path(arguments.out),
            events=arguments.events,
            include_blocked=arguments.include_blocked,
            prepared=Path(arguments.prepared).absolute() if arguments.prepared else None,
        )
    print("\n".join(done.lines()))


def _backup(project: Project, arguments: argparse.Namespace) -> None:
    from data_prep.collect.backup import backup

    _check_local(arguments.out)
    size = backup(project, Path(arguments.out))
    print(f"{arguments.out}: {size / 1e6:,.1f} MB; keep it as safe as the project, its secret is in it")


def _restore(arguments: argparse.Namespace) -> None:
    from data_prep.collect.backup import restore

    project = restore(Path(arguments.project), Path(arguments.source), overwrite=arguments.overwrite, db=arguments.db)
    print(f"{project.folder}: restored; next: python -m data_prep collect serve {arguments.project}")


def _forget(project: Project, arguments: argparse.Namespace) -> None:
    from data_prep.collect.privacy import forget

    with project.open_store() as store:
        name = store.do(lambda tx: forget(tx, arguments.worker, now_ms(), erase=arguments.erase))
    what = "the work was removed" if arguments.erase else f"the work stays, under the new id {name}"
    print(f"{arguments.worker}: forgotten; {what}. Backups and exports made before still hold the old ids.")


def _simulate_in_browsers(project: Project, arguments: argparse.Namespace) -> None:
    from data_prep.collect.simulate.browser import rehearse

    for name in ("faults", "speed"):
        if getattr(arguments, name):
            raise UserError(f"--{name} and --browser: in a browser, annotators meet no faults and are as fast as it")
    ledger = Path(arguments.ledger) if arguments.ledger else None
    number, pages, seed = arguments.annotators, arguments.pages, arguments.seed
    print(rehearse(project, annotators=number, pages=pages, url=arguments.url, ledger=ledger, seed=seed))


def _check_rehearsal(project: Project) -> None:
    """Raises `UserError` where simulated work would take the pages of people."""
    from data_prep.collect import reports

    with project.open_store() as store:
        annotators, links = reports.people(store)
    if annotators or links:
        raise UserError(
            f"{project.folder}: has {annotators:,} real annotators and {links:,} links for such; rehearse on a copy:"
            " `collect backup`, `collect restore` into another folder, and there simulate --with_real_annotators"
        )


def _simulate(project: Project, arguments: argparse.Namespace) -> None:
    if not arguments.with_real_annotators:
        _check_rehearsal(project)
    if arguments.browser:
        _simulate_in_browsers(project, arguments)
        return
    from data_prep.collect.simulate.run import FAULTS, simulate

    faults = set(FAULTS) if arguments.faults == "all" else set(filter(None, arguments.faults.split(",")))
    if unknown := faults - set(FAULTS):
        raise UserError(f"--faults={sorted(unknown)[0]}: known are {', '.join(FAULTS)} and all")
    done = simulate(
        project,
        annotators=arguments.annotators,
        pages=arguments.pages,
        url=arguments.url,
        faults=faults,
        speed=arguments.speed,
        ledger=Path(arguments.ledger) if arguments.ledger else None,
        seed=arguments.seed,
    )
    print(done)


_COMMANDS = {
    "plan": _plan,
    "serve": _serve,
    "invite": _invite,
    "status": _status,
    "export": _export,
    "backup": _backup,
    "forget": _forget,
    "simulate": _simulate,
}

__all__ = ["add_parser", "run"]
