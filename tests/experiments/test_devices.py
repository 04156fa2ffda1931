import pytest

from dar_jax.errors import SettingError
from dar_jax.experiments.devices import count_devices, share, shares


def test_processes_on_cpus_share_out_the_threads(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert share("cpu", 1, 3) == [{"NPROC": "2"}] * 3
    assert share("cpu", 1, 9)[0] == {"NPROC": "1"}


def test_gpus_are_divided_as_they_are_named():
    assert share("gpu", 5, 2) == [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]
    assert share("gpu", 2, 2, "4,GPU-7") == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "GPU-7"}]


def test_a_tpu_process_is_a_machine_of_its_own():
    one, two = share("tpu", 4, 2)
    assert (one["TPU_VISIBLE_CHIPS"], two["TPU_VISIBLE_CHIPS"]) == ("0,1", "2,3")
    assert two["TPU_CHIPS_PER_PROCESS_BOUNDS"] == "1,2,1"
    assert two["TPU_PROCESS_BOUNDS"] == "1,1,1"


@pytest.mark.parametrize(
    ("backend", "count", "jobs", "told"),
    [
        ("gpu", 2, 3, "--jobs 3: this machine has 2 gpu devices"),
        ("tpu", 8, 3, None),
        ("tpu", 6, 2, "3 TPU chips each cannot be laid out; choose 3 or 4 or 5 or 6"),
    ],
)
def test_too_few_devices_are_refused(backend, count, jobs, told):
    if told is None:
        assert len(share(backend, count, jobs)) == jobs
        return
    with pytest.raises(SettingError, match=told):
        share(backend, count, jobs)


def test_one_job_asks_nothing_and_a_process_counts():
    assert shares(1) == [{}]
    backend, count = count_devices()
    assert backend == "cpu"
    assert count >= 1
