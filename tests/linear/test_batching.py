"""Batches of pairs: sharing between seeds, what memory allows, and files of extractors."""

import numpy as np
import pytest
import torch

from immunization.linear.batching import HOST_BYTES, split
from immunization.linear.datasets._labelled import Labelled
from immunization.linear.files import open_extractors, save_extractors
from immunization.linear.immunize import immunize
from immunization.runtime.errors import UserError
from immunization.runtime.gpus.memory import halves, run_within_memory
from immunization.study.components import import_component

from .conftest import defaults, task_set


@pytest.fixture(scope="module")
def own_split():
    """A source with a test split of its own: its tasks are the same for every seed."""
    random = np.random.default_rng(2)
    labels = np.repeat(np.arange(3), 30)
    test = np.arange(90) % 5 == 0
    return task_set(Labelled(random.normal(size=(90, 6)), labels, test=test), seeds=(3, 4, 8))


def run(tasks, name, threads=1, **given):
    return immunize(
        name,
        import_component("linear/methods", name),
        defaults("methods", name, **given),
        tasks,
        "cpu",
        threads,
    )


def test_a_deterministic_method_runs_once_for_seeds_with_identical_tasks(own_split):
    thetas, owners, rows, _ = run(own_split, "r_ill_only", steps=5)
    assert list(thetas) == [3]
    assert owners == {3: 3, 4: 3, 8: 3}
    # Its trajectory stands under every seed.
    assert rows.groupby("seed").size().nunique() == 1
    assert sorted(rows["seed"].unique()) == [3, 4, 8]


def test_one_that_draws_runs_for_each(own_split):
    thetas, owners, _, _ = run(own_split, "alg1", profile="paper", steps=5)
    assert list(thetas) == [3, 4, 8]
    assert owners == {3: 3, 4: 4, 8: 8}
    assert not torch.equal(thetas[3], thetas[4])
    thetas, _, _, _ = run(own_split, "r_ill_only", steps=5, start="random")
    assert list(thetas) == [3, 4, 8]


def test_seeds_with_splits_of_their_own_share_nothing(source):
    tasks = task_set(source, seeds=(0, 1))
    thetas, owners, _, _ = run(tasks, "r_ill_only", steps=5)
    assert owners == {0: 0, 1: 1}
    alone, _, _, _ = run(task_set(source, seeds=(1,)), "r_ill_only", steps=5)
    assert torch.equal(thetas[1], alone[1])


def test_batches_hold_every_pair_once_in_order_and_stay_small_on_a_cpu():
    members = [(seed, pair) for seed in (0, 1) for pair in range(90)]
    parts = split(members, 784, "cpu")
    assert [member for part in parts for member in part] == members
    assert all(len({seed for seed, _ in part}) == 1 for part in parts)
    assert max(map(len, parts)) <= HOST_BYTES / (30 * 8 * 784**2)
    assert split(members, 64, "cpu") == [members[:90], members[90:]]


def test_a_batch_that_the_gpu_has_no_memory_for_goes_through_in_halves():
    members = [(0, pair) for pair in range(11)]
    tried = []

    def work(some):
        tried.append(len(some))
        if len(some) > 3:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return [pair for _, pair in some]

    parts = run_within_memory(work, members, halves)
    assert [pair for _, found in parts for pair in found] == list(range(11))
    assert [member for some, _ in parts for member in some] == members
    # The same batch is tried once more first: what was left behind may have been in the way.
    assert tried[:2] == [11, 11]


def test_what_fails_once_only_is_not_split():
    calls = []

    def work(some):
        calls.append(len(some))
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return len(some)

    assert run_within_memory(work, [(0, 0), (0, 1)], halves) == [([(0, 0), (0, 1)], 2)]


def test_a_pair_too_large_for_the_gpu_is_told_with_a_remedy():
    def work(some):
        raise torch.cuda.OutOfMemoryError("tried to allocate 9 GiB\nmore")

    with pytest.raises(UserError, match=r"single pair \(tried to allocate 9 GiB\).*device: cpu"):
        run_within_memory(work, [(0, 0), (0, 1)], halves)


def test_a_file_gives_each_seed_its_extractor(tmp_path, generator):
    thetas = {
        seed: torch.randn(2, 3, 3, dtype=torch.float64, generator=generator) for seed in (1, 5)
    }
    path = tmp_path / "x.safetensors"
    metadata = {"dataset": "d", "code": "c", "parameters": {"label": "m"}}
    save_extractors(path, thetas, {1: 1, 5: 5, 7: 1}, metadata)
    file = open_extractors(str(path))
    assert (file.label, file.dataset, file.code) == ("m", "d", "c")
    assert file.sharing() == {1: [1, 7], 5: [5]}
    assert torch.equal(file.theta(7), thetas[1])
    assert torch.equal(file.theta(5), thetas[5])


def test_a_truncated_file_is_told(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"12345")
    with pytest.raises(UserError, match="cannot be read"):
        open_extractors(str(path))
