"""``hear-byols cka``: how similar the layers of two models are."""

import argparse

from hear_byols.cli.options import add_command, add_device, print_failures, tell

_DESCRIPTION = """\
Compare all layers of two models over audio by centred kernel alignment (CKA; 1 is equal geometry, 0 unrelated), and
write a heat map and, beside it, the values as CSV. See docs/analysis.md for how to read it.

exit status: 0 all audio was read; 1 some files could not be; 2 nothing could start or be written"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "cka", "compare the layers of two models", run, _DESCRIPTION)
    add = parser.add_argument
    add("model_a", metavar="A", help="name, file or hf://owner/repo/file")
    add("model_b", metavar="B", help="likewise; may be A again")
    add("--audio", "-a", nargs="+", required=True, metavar="PATH", help="audio files or folders")
    add("--output", "-o", required=True, metavar="FILE", help="heat map: .png, .pdf or .svg")
    add("--npz", action="store_true", help="also write the values as npz")
    add("--kernel", "-k", default="linear", choices=("linear", "rbf"), help="default: linear")
    add("--bandwidth", type=float, default=1, metavar="X", help="of rbf, times the median distance (default: 1)")
    add("--detail", default="blocks", choices=("blocks", "all"), help="which layers (default: blocks)")
    add("--windows", type=int, default=1024, metavar="N", help="most windows (default: 1024)")
    add("--window-ms", type=float, default=1000, metavar="MS", help="their length (default: 1000)")
    add("--batch-size", type=int, default=64, metavar="N", help="windows in a minibatch (default: 64)")
    add("--passes", type=int, default=1, metavar="N", help="over all windows (default: 1)")
    add("--seed", type=int, default=0, metavar="N", help="of windows and minibatches (default: 0)")
    add_device(parser, quiet="no progress bar and no summary")


def run(args: argparse.Namespace) -> int:
    from hear_byols._util.device import find_device
    from hear_byols._util.imports import require
    from hear_byols.analysis.figures import check_output, save_figure
    from hear_byols.analysis.heatmap import draw_similarity, write_arrays, write_table
    from hear_byols.analysis.similarity import compare_layers
    from hear_byols.analysis.windows import read_windows
    from hear_byols.extraction.files import collect
    from hear_byols.hear import load_model

    require("matplotlib", "a heat map", "analysis")
    output = check_output(args.output)
    device = find_device(args.device)
    files = collect(args.audio)
    model_a = load_model(args.model_a).to(device)
    model_b = model_a if args.model_b == args.model_a else load_model(args.model_b).to(device)
    windows = read_windows(files, model_a.sample_rate, window_ms=args.window_ms, most=args.windows, seed=args.seed)
    options = {name: getattr(args, name) for name in ("detail", "kernel", "bandwidth", "batch_size", "passes", "seed")}
    similarity = compare_layers(model_a, model_b, windows.samples, progress=not args.quiet, **options)
    written = [output, output.with_suffix(".csv")]
    write_table(similarity, written[1])
    if args.npz:
        written.append(output.with_suffix(".npz"))
        write_arrays(similarity, written[2])
    save_figure(draw_similarity(similarity, args.model_a, args.model_b), output)
    status = print_failures(windows.failures)
    done = f"compared {similarity.n_windows} windows of {windows.n_files} files"
    tell(args, f"{done}; wrote {', '.join(map(str, written))}")
    return status
