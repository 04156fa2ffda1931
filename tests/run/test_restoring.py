"""A resume goes on from what the run was made of, or says what is not, before anything is changed."""

import gc
import io
import json
import shutil
from pathlib import Path

import jax
import pytest

from dar_jax.checkpoints import RunState
from dar_jax.cli.main import main
from dar_jax.config.config_file import parse_config, to_yaml
from dar_jax.errors import SettingError
from dar_jax.planning.residents import nbytes
from dar_jax.run.build import open_session
from dar_jax.run.origin import check_origin, origin
from dar_jax.run.restoring import begin, restore
from dar_jax.runlog import RunFolder
from dar_jax.terminal.console import Console
from tests.nano import write_policy, write_prompts
from tests.small_tokenizers import IM_TEMPLATE, hf

UPDATES = 4
LENGTHS = {"max_prompt_length": 16, "max_completion_length": 8}


def settings(folder: Path, **changed):
    plain = {
        "policy": {"path": str(folder / "policy"), "weights": "random"},
        "data": {"path": str(folder / "prompts.jsonl")},
        "judge": {"name": "scripted", "scorer": "overlap"},
        "steps": 9,
        "prompts_per_step": 8,
        "sampling": LENGTHS,
        "learning": {"optimizer": {"name": "adamw"}, "updates_per_batch": UPDATES},
        "evaluation": {"data": {"path": str(folder / "held_out.jsonl")}},
        "mesh": {"devices": 1},
        "display": {"mode": "quiet"},
    }
    return parse_config(json.dumps(plain | changed), where="run.yaml")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run folder with checkpoints after steps 0, 1 and 2, made without training; what it was made from beside it."""
    folder = tmp_path_factory.mktemp("kept")
    write_policy(folder / "policy")
    write_prompts(folder / "prompts.jsonl")
    write_prompts(folder / "held_out.jsonl", 12)
    config = settings(folder)
    session = open_session(config, Console("quiet"))
    with jax.set_mesh(session.mesh):
        start = begin(session, Console("quiet"))
        run = RunFolder.create(folder / "run", to_yaml(config))
        with RunState(run.checkpoints, keep=9) as saved:
            for step in range(3):
                progress = {"step": step, "start_checksum": start.progress.start_checksum, "origin": origin(session)}
                saved.save(step * UPDATES, start.state.trees(), progress, None)
    run.write("metrics", [{"step": step} for step in (1, 2)])
    run.close()
    return folder


@pytest.fixture
def folder(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "kept")


def resumed(folder, *, fallback=False, told=None, **changed):
    session, console = (
        open_session(settings(folder, **changed), Console("quiet")),
        Console("json", told or io.StringIO()),
    )
    run = RunFolder(folder / "run")
    with jax.set_mesh(session.mesh), RunState(run.checkpoints, keep=9) as saved:
        return restore(session, run, saved, console, fallback=fallback)


def flip(checkpoint: Path, item: str) -> None:
    for file in (checkpoint / item).rglob("d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


def test_a_damaged_checkpoint_is_refused_with_the_way_out(folder):
    flip(folder / "run" / "checkpoints" / "8", "params")
    with pytest.raises(
        SettingError,
        match=r"^checkpoints/8 of .*/run is damaged \(params\); remove it, or resume from 4 with --fallback$",
    ):
        resumed(folder)
    assert (folder / "run" / "checkpoints" / "8").is_dir()


def test_a_fallback_goes_on_from_the_newest_good_one(folder):
    checkpoints = folder / "run" / "checkpoints"
    flip(checkpoints / "8", "optimizer")
    (checkpoints / "4" / "progress" / "data.json").unlink()
    told = io.StringIO()
    start = resumed(folder, fallback=True, told=told)
    assert start.progress.step == 0
    assert sorted(each.name for each in checkpoints.iterdir()) == ["0", "damaged-4", "damaged-8"]
    assert RunFolder(folder / "run").read("metrics") == []
    assert "is damaged (optimizer); resuming from 4" in told.getvalue()
    assert "checkpoints/8 is now checkpoints/damaged-8" in told.getvalue()


def test_without_any_good_checkpoint_nothing_is_touched(folder):
    checkpoints = folder / "run" / "checkpoints"
    for number in ("0", "4", "8"):
        flip(checkpoints / number, "params")
    with pytest.raises(SettingError, match=r"checkpoints/0 of .* is damaged \(params\); there is no older one"):
        resumed(folder, fallback=True)
    assert sorted(each.name for each in checkpoints.iterdir()) == ["0", "4", "8"]


@pytest.mark.parametrize("fallback", [False, True])
def test_parameters_that_are_not_finite_are_gone_on_with_by_no_resume(folder, fallback):
    """Trap: a run that had saved NaN went on from it."""
    session = open_session(settings(folder), Console("quiet"))
    with jax.set_mesh(session.mesh), RunState(folder / "run" / "checkpoints", keep=9) as saved:
        start = begin(session, Console("quiet"))
        trees = start.state.trees()
        spoilt = {**trees, "params": jax.tree.map(lambda leaf: leaf * jax.numpy.nan, trees["params"])}
        kept = {"step": 3, "start_checksum": start.progress.start_checksum, "origin": origin(session)}
        saved.save(3 * UPDATES, spoilt, kept, None)
    if fallback:
        assert resumed(folder, fallback=True).progress.step == 2
    else:
        with pytest.raises(SettingError, match=r"checkpoints/12: NaN or infinite numbers in .* from 8 with --fallback"):
            resumed(folder)


def test_a_resume_holds_what_training_holds(kept, monkeypatch):
    """Traps: the first parameters in float32 stayed for the whole life of a resumed run, and a state was made before
    the saved one was loaded."""

    def live():
        gc.collect()
        return sum(each.nbytes for each in jax.live_arrays())

    session, run = open_session(settings(kept), Console("quiet")), RunFolder(kept / "run")
    with jax.set_mesh(session.mesh), RunState(run.checkpoints, keep=9) as saved:
        before = live()
        start = begin(session, Console("quiet"))
        trained = live() - before
        del start
        at_loading, load = [], saved.load
        monkeypatch.setattr(saved, "load", lambda *given: (at_loading.append(live() - before), load(*given))[1])
        again = restore(session, run, saved, Console("quiet"))
        assert live() - before == trained
        assert again.progress.step == 2
    state = session.learner.abstract_state()
    assert at_loading == [pytest.approx(trained - nbytes(state.params) - nbytes(state.optimizer), abs=4096)]
    assert trained < 1.01 * (1.5 * nbytes(state.params) + nbytes(state.optimizer)) + 4096


CHANGES = {
    "a row more": (lambda folder: write_prompts(folder / "prompts.jsonl", 25), r"data.path: .*24 prompts, then 25"),
    "another text": (
        lambda folder: edit(folder / "prompts.jsonl", '{"prompt": "', '{"prompt": "cat '),
        r"data.path: .* is not what the run started from \(other tokens: .*\); put it back",
    ),
    "held-out data": (
        lambda folder: write_prompts(folder / "held_out.jsonl", 11),
        r"evaluation.data: .*12 prompts, then 11.*evaluation=null",
    ),
    "another end": (
        lambda folder: (folder / "policy" / "generation_config.json").write_text('{"eos_token_id": [2, 3]}'),
        r"tokenizer: a completion ends with \[2, 3\], but the run started with \[2\]",
    ),
    "another model": (
        lambda folder: edit(folder / "policy" / "config.json", '"rope_theta": 10000.0', '"rope_theta": 5000.0'),
        r"policy.path: the config.json of .*rope.base: 10000.0 -> 5000.0",
    ),
}


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_the_numbers_is_compared(folder, change):
    damage, told = CHANGES[change]
    session = open_session(settings(folder), Console("quiet"))
    before = json.loads(json.dumps(origin(session)))
    damage(folder)
    with pytest.raises(SettingError, match=told):
        check_origin(before, open_session(settings(folder), Console("quiet")), "RUN")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("chat_template.jinja", "{{ message.role }}", "{{ message.role }} dog"),
        ("tokenizer.json", '"cat": 7', '"rat": 7'),
    ],
    ids=["template", "tokenizer"],
)
def test_another_template_or_tokenizer_writes_other_tokens(folder, file, old, new):
    hf(template=IM_TEMPLATE).save_pretrained(folder / "policy")
    talk = {"prompt": [{"role": "user", "content": "the cat sat"}]}
    (folder / "prompts.jsonl").write_text((json.dumps(talk) + "\n") * 8)
    session = open_session(settings(folder), Console("quiet"))
    before = json.loads(json.dumps(origin(session)))
    edit(folder / "policy" / file, old, new)
    with pytest.raises(SettingError, match=r"\(other tokens: its texts, chat template or tokenizer\); put it back"):
        check_origin(before, open_session(settings(folder), Console("quiet")), "RUN")


def test_other_recorded_completions_are_refused(folder):
    recorded = {"algorithm": {"name": "sft"}, "judge": None, "evaluation": None}
    before = json.loads(json.dumps(origin(open_session(settings(folder, **recorded), Console("quiet")))))
    edit(folder / "prompts.jsonl", '"completion": "the"', '"completion": "mat"')
    with pytest.raises(SettingError, match=r"data.path: .* \(other completions\); put it back"):
        check_origin(before, open_session(settings(folder, **recorded), Console("quiet")), "RUN")


def test_a_config_edited_by_hand_is_refused(folder):
    with pytest.raises(SettingError, match=r"run/config.yaml: seed: 0 -> 1: its checkpoints were made with the former"):
        resumed(folder, seed=1)


def test_moved_inputs_and_another_layout_go_on(folder, tmp_path):
    moved = folder.rename(tmp_path / "elsewhere")
    learning = {"optimizer": {"name": "adamw"}, "micro_batch_size": 4, "remat": False, "logprob_chunk": 8}
    start = resumed(moved, learning=learning, sampling={**LENGTHS, "chunks": 2})
    assert start.progress.step == 2


def test_fewer_steps_than_are_made_are_refused(folder):
    with pytest.raises(SettingError, match=r"steps: got 1, but 2 steps are made"):
        resumed(folder, steps=1)


def test_a_change_of_the_maths_names_the_way_out(folder, capsys):
    assert main(["train", "--resume", str(folder / "run"), "learning.optimizer.learning_rate=1e-3"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "learning.optimizer.learning_rate" in told
    assert "--output my-policy, then policy.path=my-policy" in told


def test_a_fallback_without_a_resume_is_refused(capsys):
    assert main(["train", "run.yaml", "--fallback"]) == 2
    assert "--fallback" in capsys.readouterr().err
