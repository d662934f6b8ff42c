from verification.bench_transaction import KERNELS, bench_transaction


def test_all_kernels_run_the_same_model():
    speeds = bench_transaction(rows=50, repetitions=1)
    assert set(speeds) == set(KERNELS)
    assert len({speed.end_cycle for speed in speeds.values()}) == 1
    # the slowest module, 6 cycles, sets the pace; the row crosses the others once
    assert speeds["SimPy, its store"].end_cycle == 50 * 6 + sum(3 + i % 4 for i in range(10)) - 6
