"""The command `vlm3data sources`: what can be read, asked, estimated and written."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from vlm3data.command import UsageError, print_json

KINDS = ("source", "task", "calibrator", "layout")


def sources(name: str | None = None, *, json: Annotated[bool, Parameter(negative=())] = False) -> None:
    """List the sources, tasks, calibrators and layouts, a line each; or say everything about one.

    Example: vlm3data sources scannet

    Parameters
    ----------
    name
        Which one to describe, with its own flags.
    json
        Print it as JSON, flags included.
    """
    from vlm3data import registry
    from vlm3data.report.plugins import print_list, print_plugin

    named = {kind: [one for one in registry.names(kind) if name in (None, one)] for kind in KINDS}
    if not any(named.values()):
        known = sorted({one for kind in KINDS for one in registry.names(kind)})
        raise UsageError(f"there is no {name!r}; known: {', '.join(known)}")
    if json and name is None:
        from vlm3data.flags import options_of

        print_json({kind: {one: options_of(kind, one) for one in some} for kind, some in named.items()})
        return
    about = {kind: [_about(kind, one) for one in some] for kind, some in named.items() if some}
    if json:
        print_json(about)
    elif name is None:
        print_list(about)
    else:
        for kind, (one,) in about.items():
            print_plugin(kind, one)


def _about(kind: str, name: str) -> dict[str, Any]:
    """Return what a plugin says of itself: its module's docstring, its facts where they are the class's, its flags."""
    import sys
    from dataclasses import asdict

    from vlm3data import registry
    from vlm3data.doctor.downloads import Downloads
    from vlm3data.flags import options_of

    downloads = Downloads.of(name) if kind == "source" else None
    plugin = registry.load(kind, name)
    text = (sys.modules[plugin.__module__].__doc__ or plugin.__doc__ or "").strip()
    facts = getattr(plugin, "facts", None)
    return {
        "name": name,
        "what": text.partition("\n")[0],
        "text": text,
        "downloads": downloads.model_dump() if downloads else None,
        "facts": asdict(facts) if facts is not None else None,
        "flags": options_of(kind, name),
    }
