"""Native attention against ONNX Runtime and PyTorch: ratios of medians of one interleaved run on one thread.

    python benchmarks/native_attention.py [--budget 30]

ONNX Runtime runs its Attention (opset 23) and its own MultiHeadAttention through a binding, into memory that
is there already, as the native kernels do. Every output is first compared with the float64 reference. Times
are those that the calling thread spent on a core, whatever else the machine does; only what a second thread
gains is taken from the clock, in rounds that had their cores.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import time

import numpy as np
import onnxruntime
import torch
from _native import Float32, Run, native_sets, print_machine, print_table, race, refuse_wrong
from assay_attention.reference import reference
from onnx import TensorProto, helper

PEER = "ort Attention"
CASES = (((8, 1500, 64), False), ((6, 1500, 64), False), ((8, 448, 64), True), ((8, 448, 128), False))
TOLERANCE = 2e-6
SHARE = 0.95
"""Of its cores: a round counts if every call had as much."""


def native(name: str, inputs: list[Float32], out: Float32, causal: bool, threads: int = 1) -> Run:
    """The attention compiled for one instruction set."""
    kernel = importlib.import_module(f"assay_kernels._{name}").open_attention(threads)
    return lambda: kernel(*inputs, causal=causal, out=out)


def onnx(inputs: list[Float32], out: Float32, op: str, domain: str, **attributes: int) -> Run:
    """One operator of ONNX Runtime, on one thread."""
    names = ["q", "k", "v"]
    node = helper.make_node(op, names, ["out"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        op,
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
            for name, array in zip(names, inputs, strict=True)
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, out.shape)],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    binding = session.io_binding()
    for name, array in zip(names, inputs, strict=True):
        binding.bind_cpu_input(name, array)
    binding.bind_output("out", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    return lambda: session.run_with_iobinding(binding)


def side_by_side(array: Float32) -> Float32:
    """(heads, length, depth) to (1, length, heads * depth)."""
    heads, length, depth = array.shape
    return np.ascontiguousarray(array.swapaxes(0, 1)).reshape(1, length, heads * depth)


def contestants(inputs: list[Float32], causal: bool) -> dict[str, tuple[Run, Float32]]:
    """By name, what computes attention once, and (heads, length, depth) where it is then."""
    heads, length, depth = inputs[0].shape
    outs = {name: np.full_like(inputs[0], np.nan) for name in (PEER, "torch", *native_sets())}
    together = np.full((1, length, heads * depth), np.nan, np.float32)
    tensors = [torch.from_numpy(array[None]) for array in inputs]  # with three axes it takes a slower way
    result = torch.from_numpy(outs["torch"][None])

    def run_torch() -> None:
        result.copy_(torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=causal))

    return {
        PEER: (
            onnx([a[None] for a in inputs], outs[PEER][None], "Attention", "", is_causal=causal),
            outs[PEER],
        ),
        "ort MultiHead": (
            onnx(
                [side_by_side(array) for array in inputs],
                together,
                "MultiHeadAttention",
                "com.microsoft",
                num_heads=heads,
                unidirectional=causal,
            ),
            together[0].reshape(length, heads, depth).swapaxes(0, 1),
        ),
        "torch": (run_torch, outs["torch"]),
        **{
            f"native-{name}": (native(name, inputs, outs[name], causal), outs[name]) for name in native_sets()
        },
    }


def draw(shape: tuple[int, int, int]) -> list[Float32]:
    """q, k and v of normal noise."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for _ in range(3)]


def report(shape: tuple[int, int, int], causal: bool, budget: float) -> None:
    """Print the table of one shape."""
    inputs = draw(shape)
    expected = reference(*inputs, causal=causal)
    runners = contestants(inputs, causal)
    errors = {}
    for name, (run, out) in runners.items():
        run()
        errors[name] = float(np.abs(out - expected).max())
        refuse_wrong(name, errors[name], TOLERANCE, shape)
    times = race({name: run for name, (run, _) in runners.items()}, budget)
    print_table(f"{shape}{', causal' if causal else ''}", times, PEER, errors)


def on_the_clock(run: Run, threads: int) -> float | None:
    """Seconds of one call, or None if it didn't have its cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall if cpu >= SHARE * threads * wall else None


def report_threads(shape: tuple[int, int, int], budget: float) -> None:
    """Print what a second thread gains."""
    inputs = draw(shape)
    name = native_sets()[-1]
    out = np.empty_like(inputs[0])
    one, two = (native(name, inputs, out, False, threads) for threads in (1, 2))
    ratios: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() < start + budget or len(ratios) < 5:
        pair = on_the_clock(one, 1), on_the_clock(two, 2)
        if pair[0] is not None and pair[1] is not None:
            ratios.append(pair[0] / pair[1])
        elif time.perf_counter() > start + 10 * budget:
            print(f"\nnative-{name}: this machine is too busy to tell what a second thread gains")
            return
    low, median, high = np.percentile(ratios, [25, 50, 75])
    print(
        f"\nnative-{name}, {shape}: two threads are {median:.2f} times one "
        f"(quartiles {low:.2f} to {high:.2f}, {len(ratios)} rounds)"
    )


def main() -> None:
    """Run the race for each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of measuring for each table")
    budget = parser.parse_args().budget
    torch.set_num_threads(1)
    print_machine(f"onnxruntime {importlib.metadata.version('onnxruntime')}", PEER)
    for shape, causal in CASES:
        report(shape, causal, budget)
    report_threads(CASES[0][0], budget)


if __name__ == "__main__":
    main()
