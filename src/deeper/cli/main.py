"""The command ``deeper VERB [overrides]``: one small Hydra app per verb."""

import difflib
import errno
import importlib
import io
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import deeper
from deeper.cli.help import help_of, used_keys
from deeper.config.command_line import quoted
from deeper.config.yaml_files import conf_directory
from deeper.display.standard_streams import FULL, lasting
from deeper.errors import ExitCode, ReportedElsewhereError, UserError

VERBS = {
    "train": "train a net, or with -m a sweep of them",
    "sweep": "sweep status, sweep resume, sweep cancel: a sweep from any terminal",
    "search": "choose better values for a study by Optuna; search lr: the learning rate's range",
    "report": "make a study's tables, figures and page from its run directories",
    "evaluate": "evaluate a run's checkpoint on a split",
    "inspect": "a net layer by layer; inspect conv: one convolution's arithmetic",
    "predict": "say which classes images show",
    "see": "what a net's layers look for, and which pixels its answers come from",
    "features": "what a layer says of every image, and how it tells the classes apart",
    "weights": "import torchvision and timm weights; export safetensors, ONNX",
    "prepare": "prepare a data set",
    "sync": "send the records of runs to Weights & Biases",
    "doctor": "say what this machine has and what is missing",
}

# Started by launchers with composed configs: a run, and a detached launcher.
BY_DIRECTORY = ("arm", "detached")
# Verbs whose sections of a run's config, such as data, are checked here.
OF_A_RUN = ("inspect", "prepare", "doctor")

# Errors of the operating system that the user can fix.
REFUSALS = (
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, *FULL),
)
HELP = ("-h", "--help")
# Hydra's options that have a value after them.
WITH_VALUE = (
    "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c",
    "--package", "-p", "--info", "-i",
)  # fmt: skip


def main() -> int:
    """Run a verb and return the exit status.

    0: done. 1: an internal error. 2: a mistake in the command, reported in one sentence. 3: the
    loss became infinite or not a number. 75: stopped on request; the same command continues. A
    closed standard output (``| head``) does not change the status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names may be invalid text, and terminals may lack characters.
            stream.reconfigure(errors="backslashreplace")
    _, words = split_options(sys.argv[1:])
    log = words[:1] in (["train"], ["search"], *([verb] for verb in BY_DIRECTORY)) or (
        words[:2] == ["sweep", "resume"]
    )
    with lasting(log=log):
        try:
            status = _main()
            sys.stdout.flush()
        except OSError as error:
            return tell(error)
        return status


def _main() -> int:
    options, words = split_options(sys.argv[1:])
    verb, *rest = words or options or ["--help"]
    if "--version" in options:
        return _show(f"deeper {deeper.__version__}")
    if verb == "help" and rest:
        verb, rest, options = rest[0], rest[1:], ["--help"]
    if verb in (*HELP, "help"):
        return _show(_usage())
    if verb not in (*VERBS, *BY_DIRECTORY):
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        print(f"deeper: there is no verb {verb!r}.{hint}\n\n{_usage()}", file=sys.stderr)
        return ExitCode.USER_ERROR
    if [verb, *rest[:1]] == ["inspect", "conv"]:
        verb, rest = "convolution", rest[1:]
    if verb in ("sweep", "search") and rest and "=" not in rest[0]:
        rest = [f"action={rest[0]}", *rest[1:]]
    if verb not in BY_DIRECTORY and any(word in HELP for word in options):
        return _show(help_of(verb, conf_directory()))
    # Keeps XLA's C++ log to errors; a warning there has no line number that a reader could use.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    module = importlib.import_module(f"deeper.cli.{verb}")
    if verb in BY_DIRECTORY:
        return _run_in_directory(verb, module.run, rest)
    return _run_app(verb, module.run, [*options, *rest])


def split_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options of a command line, with their values, and its other words.

    Hydra requires all overrides in a row; here options may be anywhere between them.
    """
    options: list[str] = []
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word in WITH_VALUE:
            options.extend([word, *([value] if (value := next(rest, None)) is not None else [])])
        elif word.startswith("-"):
            options.append(word)
        else:
            words.append(word)
    return options, words


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    return (
        "usage: deeper VERB [key=value ...]\n\n"
        f"{verbs}\n\n"
        "deeper VERB --help, or deeper help VERB, explains a verb; deeper --version tells\n"
        "the version; deeper VERB --cfg job shows what is set."
    )


def _show(text: str) -> int:
    print(text)
    return ExitCode.FINISHED


def _run_app(verb: str, run: Callable[[Any], int | None], arguments: list[str]) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from deeper.config.compose import register_resolvers
    from deeper.config.unused_keys import refuse_unused
    from deeper.config.verbs import VERBS as VERB_KEYS
    from deeper.config.verbs import check_sections, read_keys

    register_resolvers()
    # Hydra's error handling hides useful information; errors are reported below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = [f"deeper {verb}", *arguments]

    failures: list[Exception] = []

    def app(config: Any) -> None:
        try:
            there = set(config.keys())  # includes missing values (???), for which `in` is false
            keys = [key.name for key in fields(VERB_KEYS[verb]) if key.name in there]
            for key, value in read_keys(verb, {key: _value(config, key) for key in keys}).items():
                config[key] = value  # numbers are accepted for texts
            if verb in OF_A_RUN:
                check_sections({key: _value(config, key) for key in there - {"hydra", *keys}})
            typed = HydraConfig.get().overrides.task
            refuse_unused(verb, typed, config, {*keys, *used_keys(verb, conf_directory())})
            status = run(config) or ExitCode.FINISHED
        except Exception as error:  # reported below; Hydra would add a line of its own
            failures.append(error)
            status = ExitCode.FAILED
        sys.exit(status)

    decorate = hydra.main(version_base="1.3", config_path=str(conf_directory()), config_name=verb)
    try:
        _check_options(verb, arguments)
        decorate(app)()
    except SystemExit as done:
        if failures:
            return tell(failures[0])
        return done.code if isinstance(done.code, int) else ExitCode.FAILED
    except (Exception, KeyboardInterrupt) as error:
        return tell(error)
    return ExitCode.FINISHED


def _check_options(verb: str, arguments: list[str]) -> None:
    """Read a verb's options as Hydra will, which would print its own usage and leave.

    Raises:
        UserError: there is no such option, its value is missing or wrong, or two exclude each
            other.
    """
    from hydra._internal.utils import get_args_parser

    typed = "inspect conv" if verb == "convolution" else verb

    def refuse(reason: str) -> NoReturn:
        raise UserError(f"{reason}. `deeper {typed} --help` has keys and examples.")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign, assignment]
    given = parser.parse_args(arguments)
    if given.multirun and (given.cfg or given.info):
        refuse("-m starts a sweep, and --cfg and --info only show a config: leave one of them out")


def _value(config: Any, key: str) -> Any:
    from omegaconf import OmegaConf

    if OmegaConf.is_missing(config, key):
        return "???"
    value = config[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _run_in_directory(verb: str, run: Callable[[Path], int], arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(f"usage: deeper {verb} DIRECTORY", file=sys.stderr)
        return ExitCode.USER_ERROR
    try:
        return run(Path(arguments[0]))
    except (Exception, KeyboardInterrupt) as error:
        return tell(error)


def tell(error: BaseException) -> int:
    """Report an error and return the exit status.

    A mistake of the user gives one sentence, an internal error a traceback.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from deeper.config.compose import NULL_GROUP
    from deeper.config.settings import show

    if isinstance(error, KeyboardInterrupt):
        print("\ndeeper: stopped.", file=sys.stderr)
        return ExitCode.INTERRUPTED
    for cause in _causes(error):
        if isinstance(cause, ReportedElsewhereError):
            return ExitCode.USER_ERROR
        if isinstance(cause, UserError):
            print(f"deeper: {cause}", file=sys.stderr)
            return ExitCode.USER_ERROR
    if isinstance(error, HydraException | OmegaConfBaseException):
        print(f"deeper: {explain(error)}", file=sys.stderr)
        return ExitCode.USER_ERROR
    if isinstance(error, OSError) and error.errno in REFUSALS:
        place = show(error.filename or "standard output")
        print(
            f"deeper: {place}: {error.strerror}. Mend that, or choose another place "
            "(runs=DIRECTORY for runs), and repeat the command.",
            file=sys.stderr,
        )
        return ExitCode.USER_ERROR
    if isinstance(error, ValueError) and str(error).startswith(NULL_GROUP):
        null = " ".join(word for word in sys.argv[1:] if word.endswith("=null"))
        print(f"deeper: {null}: a group needs a file; leave it out, or name one.", file=sys.stderr)
        return ExitCode.USER_ERROR
    if _is_hydras_own(error):
        given = " ".join(word for word in sys.argv[1:] if "=" in word)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(
            f"deeper: {show(given)}: this does not compose ({show(reason)}): the value of a group "
            "is the name of a file of it.",
            file=sys.stderr,
        )
        return ExitCode.USER_ERROR
    traceback.print_exception(error)
    return ExitCode.FAILED


def _is_hydras_own(error: BaseException) -> bool:
    """Return whether an error was raised by Hydra or OmegaConf during composition."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    module = "" if last is None else str(last.tb_frame.f_globals.get("__name__", ""))
    return module.split(".")[0] in ("hydra", "omegaconf")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its explicit causes, without errors that were only being handled."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def explain(error: BaseException) -> str:
    """Return what is wrong with an override, and what would be right."""
    from hydra.errors import OverrideParseException

    from deeper.config.compose import hydras_words

    if isinstance(error, OverrideParseException):
        return _how_quoted(str(error.override))
    if missing := re.search(r"Missing mandatory value: ([\w.@/]+)", str(error)):
        return f"{missing[1]} is missing: give {missing[1]}=VALUE."
    text = hydras_words(error)
    cause = "; ".join(str(c).splitlines()[0] for c in _causes(error) if c is not error and str(c))
    unknown = re.search(r"There is no key ([\w.@/]+?)\.(?: |$)", text)
    if cause and not unknown and cause.split(" full_key")[0] not in text:
        text = f"{text} ({cause})"
    # OmegaConf leaves placeholders if it does not know the key.
    text = re.sub(r"\s*\bfull_key: *\S*", "", text)
    text = text.replace("$FULL_KEY", "a value").replace("$KEY", "a value")
    if unknown:
        known = _known_keys(unknown[1])
        close = difflib.get_close_matches(unknown[1], known, n=3, cutoff=0.6)
        parent = unknown[1].rpartition(".")[0]
        if close:
            text += f" Did you mean {' or '.join(close)}?"
        siblings = [key for key in known if key.rpartition(".")[0] == parent]
        if siblings:
            text += f" {parent or 'The config'} has: {', '.join(siblings)}."
    return text


def _how_quoted(override: str) -> str:
    """Return how to quote a value with characters of Hydra's grammar in a shell."""
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"[~+]{0,2}[\w./@-]+", key):
        return f"{override}: give KEY=VALUE."
    bare = os.path.expanduser(value.strip("'\""))  # noqa: PTH111 - Path would tidy the rest
    word = f"{key}={quoted(bare)}"
    plain = not re.search(r'["$`\\!]', word)
    for_shell = f'"{word}"' if plain else shlex.quote(word)
    return (
        f"{override}: Hydra takes some characters of the value for its grammar. Quote the value, "
        f"and that again for the shell: {for_shell}"
    )


def _known_keys(key: str) -> list[str]:
    """Return the dotted keys of the config, composed without the wrong overrides."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from deeper.config.compose import own_hydra

    verb = sys.argv[0].split()[-1]
    # Keep the groups that the user chose: their keys differ.
    chosen = [a for a in sys.argv[1:] if re.fullmatch(r"\w+=\w+", a) and not a.startswith(key)]
    with own_hydra(), initialize_config_dir(str(conf_directory()), version_base="1.3"):
        for overrides in (chosen, []):
            try:
                config = compose(verb, overrides=overrides)
                break
            except Exception:  # not a group, or wrong too: compose without it
                continue
        else:
            return []

    def walk(node: Any, prefix: str) -> Iterator[str]:
        for name, child in node.items():
            yield f"{prefix}{name}"
            if isinstance(child, dict):
                yield from walk(child, f"{prefix}{name}.")

    return list(walk(OmegaConf.to_container(config, resolve=False), ""))
