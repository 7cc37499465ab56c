"""tidemill demo: the whole loop on one machine, shown as it runs."""

import json
import os
import secrets
from pathlib import Path

import typer

from tidemill.cli.context import DEFAULT_TENANT, Context, open_context, run
from tidemill.cli.demo.flow import Flow
from tidemill.cli.demo.fresh import move_state_aside
from tidemill.cli.demo.handbook import DEFAULT_FOLDER, load_handbook
from tidemill.cli.demo.memory import resident_memory
from tidemill.cli.demo.report import Report, document, show
from tidemill.cli.demo.stages import Stages
from tidemill.cli.mesh_commands import report_addresses, start_mesh

STAGES = 9
# Windows of a few minutes instead of hours; every value is an ordinary setting.
DEMO_SETTINGS = {
    "TIDEMILL_EVALUATOR_CANARY_SHARE": "0.5",
    "TIDEMILL_EVALUATOR_CANARY_MIN_ANSWERS": "8",
    "TIDEMILL_EVALUATOR_CANARY_MIN_SECONDS": "5",
    "TIDEMILL_TRAINER_QUIET_SECONDS": "3",
    # Drift is told against a tenant's first questions; the demo asks fewer than a day's.
    "TIDEMILL_MONITOR_DRIFT_REFERENCE": "60",
    # The handbook's answers are a few words: who rambles is cut off, before and after alike.
    "TIDEMILL_INFERENCE_DEFAULT_OUTPUT_TOKENS": "48",
    "TIDEMILL_EVALUATOR_RUN_MAX_OUTPUT_TOKENS": "48",
}

NEXT = """
The mesh is still running on the new release. Try:
  tidemill ask "How many days of annual leave does a full-time employee get?"
  tidemill submit README.md            documents of your own
  tidemill feedback ANSWER_ID --thumb up
  tidemill releases                    what went live, what was refused, and why
  tidemill trace ANSWER_ID             one trace over all services
  tidemill down                        stop; the state stays
"""


def demo(
    json_file: Path | None = typer.Option(None, "--json", help="Also write the figures here."),
    handbook: Path = typer.Option(DEFAULT_FOLDER, help="Folder of documents and questions."),
    seed: int = typer.Option(1, help="Chooses questions, and how corrections are scrambled."),
    pool: int = typer.Option(64, min=24, help="Questions that get feedback."),
    held_out: int = typer.Option(60, min=20, help="Questions that measure."),
    running: bool = typer.Option(
        False, "--running", help="On the mesh that the settings name, as a tenant of its own."
    ),
) -> None:
    """Run the loop: ingest, ask, learn, gate, canary, promote, refuse, alert."""
    context = open_context(new_tenant() if running else DEFAULT_TENANT)
    for name, value in DEMO_SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("TIDEMILL_TRAINER_MIN_FEEDBACK", str(pool * 2 // 3))

    async def work() -> None:
        planned = STAGES - 1 if running else STAGES
        stages, report = Stages(context.output, planned), Report(seed)
        chosen = load_handbook(handbook, seed=seed, pool=pool, held_out=held_out)
        if not running:
            with stages.stage("start", "Start broker, Triton and seven services"):
                await start_anew(context)
        async with context.client() as client:
            await Flow(context, client, chosen, stages, report).run()
        report.memory = resident_memory(context.settings)
        finish(context, stages, report, json_file)
        context.output.line("" if running else NEXT)

    run(context, work())


def new_tenant() -> str:
    """A mesh that serves others keeps what it has: the demo's tenant is nobody else's."""
    return f"demo-{secrets.token_hex(4)}"


async def start_anew(context: Context) -> None:
    archive = move_state_aside(context)
    if archive:
        context.output.note(f"  earlier state moved to {archive}")
    report_addresses(context, await start_mesh(context))


def finish(context: Context, stages: Stages, report: Report, json_file: Path | None) -> None:
    show(report, stages, context.output)
    if json_file:
        json_file.write_text(json.dumps(document(report, stages), indent=2) + "\n")
        context.output.line(f"figures written to {json_file}")
