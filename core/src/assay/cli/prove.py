"""``assay prove [ID]``: run the proof anew, and show every probe's error."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from assay.cli import DONE, WRONG, Misused
from assay.cli.options import ConfigFile, Json
from assay.cli.output import bar, console, duration, emit, table
from assay.cli.session import opened, source
from assay.config import load
from assay.contract.candidate import Candidate, Certificate
from assay.contract.naming import near, selects
from assay.runtime import Runtime

Which = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="An operation, an id, or a pattern of ids; everything if left out."),
]
Frozen = Annotated[
    bool, typer.Option("--frozen", help="Prove nothing: ask whether each has a valid certificate.")
]


def command(id: Which = None, frozen: Frozen = False, config: ConfigFile = None, json: Json = False) -> int:
    """Prove anew, and show the error of every probe.

    Those that this machine cannot run or the configuration denies are left out, unless one is named.
    Exit 1 if any may not serve.
    """
    demanded = load(source(config)).config
    mode = "frozen" if frozen else "cached"  # to prove is what is asked for, whatever servers are told
    demanded = demanded.model_copy(update={"proof": demanded.proof.model_copy(update={"mode": mode})})
    with opened(demanded, ops=()) as runtime:
        chosen = _select(runtime, id)
        able = [candidate for candidate in chosen if not candidate.rejected]
        try:
            with bar(len(able), "proving") as advance:
                for candidate in able:
                    advance(candidate.id)
                    operation = runtime.registry.operation(candidate.implementation.op)
                    runtime.negotiation.certify(operation, candidate, anew=not frozen)
        finally:
            runtime.negotiation.prover.close()
    shown = chosen if id and len(chosen) == 1 else [c for c in chosen if c in able]
    if json:
        emit({"candidates": [candidate.dump() for candidate in shown]})
    else:
        _show(shown, every_probe=len(shown) == 1, left_out=len(chosen) - len(shown))
    return WRONG if any(candidate.rejected for candidate in shown) else DONE


def _select(runtime: Runtime, id: str | None) -> list[Candidate]:
    """The candidates that are meant, screened.

    Raises:
        Misused: There is none of that name.
    """
    registry = runtime.registry
    every = [
        candidate for op in sorted(registry.operations) for candidate in runtime.negotiation.screened(op)
    ]
    chosen = [c for c in every if id is None or id == c.implementation.op or selects(id, c.id)]
    if not chosen:
        known = [*registry.operations, *(candidate.id for candidate in every)]
        raise Misused(f"nobody offers {id!r}: {near(id or '', known)}")
    return chosen


def _show(candidates: list[Candidate], every_probe: bool, left_out: int) -> None:
    out = console()
    overview = table(
        "Implementation", "Verdict", "Error", "Admitted", "Probes", "Time", right=("Probes", "Time")
    )
    for candidate in candidates:
        overview.add_row(*_line(candidate))
    out.print(overview)
    if left_out:
        out.print(f"{left_out} more cannot run here or are denied: assay explain says why.")
    for candidate in candidates:
        if candidate.rejected:
            reason = candidate.reasons[-1]
            out.print(f"{candidate.id}: {reason.message}")
            if reason.remedy:
                out.print(f"  -> {reason.remedy}")
        elif every_probe and candidate.certificate is not None:
            _show_probes(candidate.certificate)


def _line(candidate: Candidate) -> tuple[str, ...]:
    certificate = candidate.certificate
    if certificate is None:
        verdict = candidate.reasons[-1].code.value if candidate.reasons else "not proved"
        return candidate.id, verdict, "-", "-", "-", "-"
    worst = certificate.worst
    return (
        candidate.id,
        "proved",
        f"{worst.max_abs:.1e}",
        f"{worst.limit:.1e} ({worst.probe})",
        str(len(certificate.measurements)),
        duration(certificate.seconds),
    )


def _show_probes(certificate: Certificate) -> None:
    shown = table(
        "Probe",
        "Error",
        "Admitted",
        "RMS",
        "RMS admitted",
        "Share",
        right=("Error", "Admitted", "RMS", "RMS admitted", "Share"),
    )
    for one in certificate.measurements:
        rms: tuple[Any, Any] = (
            ("-", "-") if one.rms_limit is None else (f"{one.rms:.1e}", f"{one.rms_limit:.1e}")
        )
        shown.add_row(one.probe, f"{one.max_abs:.1e}", f"{one.limit:.1e}", *rms, f"{one.share:.0%}")
    out = console()
    out.print(shown)
    out.print(f"Seed {certificate.seed}, {certificate.made}.")
