"""The ``medseg`` command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from . import cohort, compare, dicom, models_catalogue, models_import, phantom, pipes, report, review, view
from .execute import execute, parse_choices, parse_windows

EXIT_CODES = (
    "Exit codes: 0 done, 2 bad input or option, 3 the model cannot be used, 4 the device failed, 130 cancelled "
    "(Ctrl-C; nothing is left behind), 141 nobody reads the output any more (| head), 1 a fault of MedSeg itself. "
    "Of a batch, the code of the worst case. "
    "For research use only."
)

app = typer.Typer(
    name="medseg",
    help="Run medical ONNX models on volumes: segments, scores and tables on the input's own grid.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(
    help="List, show, check, import, install and remove models.",
    no_args_is_help=True,
    epilog=EXIT_CODES,
    rich_markup_mode=None,
)
app.add_typer(models_app, name="models")
models_import.register(models_app, EXIT_CODES)
models_catalogue.register(models_app, EXIT_CODES)
compare.register(app, EXIT_CODES)
cohort.register(app, EXIT_CODES)
review.register(app, EXIT_CODES)
phantom.register(app, EXIT_CODES)
report.register(app, EXIT_CODES)
dicom.register(app, EXIT_CODES)
view.register(app, EXIT_CODES)

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Id of an installed model, package folder, .zip, .onnx or manifest .json."),
]
InputsArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="INPUT...", help="NIfTI, NRRD, MetaImage, DICOM file or folder, PNG, JPEG or TIFF."),
]
WeightsOption = Annotated[Path | None, typer.Option(help="ONNX file for a manifest without one beside it.")]
SeriesOption = Annotated[str | None, typer.Option(help="Number or UID of the DICOM series, where there are several.")]
FrameOption = Annotated[
    str | None,
    typer.Option(metavar="NUMBER|all", help="Time, echo or b-value of a 4D image, from 1 (see: medseg series)."),
]
NamedOption = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME=FILE", help="The file of one input channel, by the channel's name."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ... (see: medseg devices).")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace an earlier result in the output folder.")]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Slices or windows at a time.")]
PatchOption = Annotated[
    tuple[int, int, int] | None,
    typer.Option(metavar="I J K", help="Window size of a sliding-window model, voxels along i, j, k."),
]
MirrorOption = Annotated[
    bool,
    typer.Option(
        "--mirror", help="Average over mirrored images, where the model was trained so (2 to 8 times the work)."
    ),
]
ModalityOption = Annotated[
    str | None, typer.Option(metavar="CT|MR|CR|DX", help="Modality of inputs whose file does not say it (NIfTI).")
]
ChooseOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=OPTION", help="Take another option of one of the model's choices; repeat for each."),
]
DicomFormOption = Annotated[
    str, typer.Option(metavar="binary|labelmap|both", help="Form of the masks in DICOM: most viewers read binary.")
]
DeidentifyOption = Annotated[bool, typer.Option("--deidentify", help="DICOM objects that name nobody.")]
FilmPlaneOption = Annotated[
    bool, typer.Option("--film-plane", help="Masks on films get a made-up plane, which OHIF and Slicer need.")
]
WindowOption = Annotated[
    list[str] | None,
    typer.Option(metavar="LEVEL,WIDTH", help="In place of the model's windows, where it allows that; repeat for each."),
]


def main() -> None:
    """Entry point of the command."""
    # Started by a service without them, or with ``>&-``: what is said goes nowhere, and the run goes on.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  (open to the end)
    pipes.watch()
    try:
        app()
    finally:
        sys.stdout.flush()


def version(show: bool) -> None:
    """``--version``."""
    if show:
        typer.echo(f"medseg {__version__}")
        raise typer.Exit


@app.callback()
def medseg(
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run medical ONNX models on volumes: segments, scores and tables on the input's own grid."""


@app.command(epilog=EXIT_CODES)
def run(
    model: ModelArgument,
    inputs: InputsArgument = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the result.")] = ...,  # type: ignore[assignment]
    named: NamedOption = None,
    weights: WeightsOption = None,
    series: SeriesOption = None,
    frame: FrameOption = None,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    batch: BatchOption = None,
    patch: PatchOption = None,
    window: WindowOption = None,
    choose: ChooseOption = None,
    modality: ModalityOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: all cores).")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write class probability maps.")] = False,
    mirror: MirrorOption = False,
    scene: Annotated[bool, typer.Option("--scene/--no-scene", help="Make scene.mrb and preview.png.")] = True,
    preview: Annotated[
        bool, typer.Option("--preview/--no-preview", help="Make preview.png, where scene.mrb is made.")
    ] = True,
    as_dicom: Annotated[bool, typer.Option("--dicom", help="Also write DICOM objects; the input is DICOM.")] = False,
    dicom_form: DicomFormOption = "binary",
    deidentify: DeidentifyOption = False,
    film_plane: FilmPlaneOption = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Run the network on this server (KServe v2, as Triton); token: see README."),
    ] = None,
    server_fallback: Annotated[
        str, typer.Option(metavar="error|local", help="What follows where the server cannot: an error, or go on here.")
    ] = "error",
    server_timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Longest wait for an answer.")] = 300.0,
    server_ca: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="Authority of its certificate.")] = None,
    server_compress: Annotated[
        str,
        typer.Option(metavar="auto|on|off", help="Compress what travels; auto: unless the server is this computer."),
    ] = "auto",
    server_model: Annotated[str | None, typer.Option(metavar="NAME", help="The network's name there.")] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run MODEL on one case, or on each INPUT of a batch (each gets a sub-folder of the output folder)."""
    from .console import Command

    def body(command: Command) -> int:
        from ..engine.server import server_from
        from ..errors import InputError
        from ..pipeline.run import RunOptions
        from .cases import run_command

        objects = None
        if as_dicom:
            from ..dicom_out.write import dicom_options  # loads pydicom's tables of codes

            objects = dicom_options(dicom_form, deidentify, film_plane)
        elif deidentify or film_plane or dicom_form != "binary":
            raise InputError("--dicom-form, --deidentify and --film-plane are about DICOM objects: add --dicom.")
        options = RunOptions(
            device, precision, batch, patch, probabilities, parse_windows(window), None, threads, modality,
            parse_choices(choose), mirror,
            server_from(
                server, fallback=server_fallback, timeout=server_timeout, authority=server_ca, name=server_model,
                compress=server_compress
            ) if server else None,
        )  # fmt: skip
        return run_command(
            command,
            model,
            inputs or [],
            named or [],
            output,
            weights=weights,
            series=series,
            frame=frame,
            force=force,
            scene=scene,
            preview=preview,
            options=options,
            dicom=objects,
        )

    execute(body, as_json=as_json, debug=debug)


@app.command(epilog=EXIT_CODES)
def explain(
    model: ModelArgument,
    inputs: InputsArgument = None,
    named: NamedOption = None,
    weights: WeightsOption = None,
    series: SeriesOption = None,
    frame: FrameOption = None,
    tensors: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Write the exact network input.")] = None,
    volume: Annotated[
        Path | None, typer.Option(metavar="FILE.nrrd", help="Write the network's input as a volume in its place.")
    ] = None,
    device: DeviceOption = "auto",
    batch: BatchOption = None,
    patch: PatchOption = None,
    window: WindowOption = None,
    choose: ChooseOption = None,
    modality: ModalityOption = None,
    mirror: MirrorOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say what a run would do: grids, steps, tiles, memory; optionally write the exact network input."""
    from .console import Command

    def body(command: Command) -> int:
        from ..pipeline.run import RunOptions
        from .inspection import explain_command

        options = RunOptions(
            device=device, batch=batch, patch=patch, windows=parse_windows(window), modality=modality,
            choices=parse_choices(choose), mirror=mirror,
        )  # fmt: skip
        return explain_command(
            command, model, inputs or [], named or [], weights=weights, series=series, frame=frame, tensors=tensors,
            view=volume, options=options,
        )  # fmt: skip

    execute(body, as_json=as_json, debug=debug)


@app.command(epilog=EXIT_CODES)
def series(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A DICOM folder or DICOMDIR, or a 4D image.")],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List what INPUT holds: the DICOM series of a folder, the frames (times, echoes, b-values) of a 4D image."""
    from .listing import series_command

    execute(lambda command: series_command(command, source), as_json=as_json, debug=debug)


@app.command(epilog=EXIT_CODES)
def devices(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show which devices are installed, which truly run a network, and the versions."""
    from .inspection import devices_command

    execute(devices_command, as_json=as_json, debug=debug)


@app.command(epilog=EXIT_CODES)
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")] = Path("demo-output"),
    device: DeviceOption = "auto",
    force: ForceOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run the shipped 2D and 3D models on synthetic volumes; nothing is downloaded."""
    from .console import Command

    def body(command: Command) -> int:
        from .demonstration import demo_command

        return demo_command(command, output, device=device, force=force)

    execute(body, as_json=as_json, debug=debug)


@models_app.command("list", epilog=EXIT_CODES)
def models_list(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """List the installed models, and the published ones with the state of each."""
    from .inspection import list_command

    execute(list_command, as_json=as_json, debug=debug)


@models_app.command("show", epilog=EXIT_CODES)
def models_show(
    model: ModelArgument, weights: WeightsOption = None, as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Show the card of a model."""
    from .inspection import show_command

    execute(lambda command: show_command(command, model, weights), as_json=as_json, debug=debug)


@models_app.command("check", epilog=EXIT_CODES)
def models_check(
    model: ModelArgument,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check a model package completely and open its network."""
    from .inspection import check_command

    execute(lambda command: check_command(command, model, weights, device), as_json=as_json, debug=debug)
