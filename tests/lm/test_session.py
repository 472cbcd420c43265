"""A session's memory is its own: kept, copied, undone, refused, and never seen by another."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from tokenizers.processors import TemplateProcessing

from titans_mlx import Titans
from titans_mlx.lm import MemorySession, byte_tokenizer
from titans_mlx.lm.session import FILE_PIECE, _file_pieces

from .conftest import MODELS, TEXT, arrays_of, config_of, ids_of, same

GetModel = Callable[[str], Titans]
FACT = "a fact: the key is 7. "


def fed(session: MemorySession) -> MemorySession:
    """A fork that has read something."""
    other = session.fork()
    other.feed("x")
    return other


def close(a: MemorySession, b: MemorySession) -> bool:
    pairs = zip(arrays_of(a), arrays_of(b), strict=True)
    return a.position == b.position and all(np.allclose(x, y, rtol=1e-4, atol=1e-4) for x, y in pairs)


@pytest.mark.parametrize("name", MODELS)
def test_feeding_in_parts_or_from_a_file_is_feeding_at_once(model_of: GetModel, name: str, tmp_path: Path) -> None:
    whole, parts, file = (MemorySession(model_of(name), piece=16) for _ in range(3))
    assert whole.feed(TEXT[:70]) == 70
    for cut in (TEXT[:1], TEXT[1:33], ids_of(TEXT[33:50]), np.array(ids_of(TEXT[50:70]), dtype=np.uint16)):
        parts.feed(cut)
    (tmp_path / "text.txt").write_text(TEXT[:70])
    file.feed(tmp_path / "text.txt")
    assert close(whole, parts) and same(whole, file)


@pytest.mark.parametrize("name", MODELS)
def test_generation_is_read_and_can_be_gone_on_with(model_of: GetModel, name: str) -> None:
    once, twice = MemorySession(model_of(name)), MemorySession(model_of(name))
    text = once.generate("the cat", 10)
    assert len(text) == 10 and once.position == 17
    assert text == twice.generate("the cat", 4) + twice.generate("", 6)
    read = MemorySession(model_of(name))
    read.feed("the cat" + text)
    assert close(once, twice) and close(once, read)


def test_sampling_is_by_the_seed(model_of: GetModel) -> None:
    texts = [MemorySession(model_of("mac")).generate("the", 20, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("name", ["lmm", "mac", "transformer"])
def test_surprise_is_what_the_model_did_not_foresee_and_changes_nothing(model_of: GetModel, name: str) -> None:
    session = MemorySession(model_of(name), piece=8)
    first = session.surprise(TEXT[:20])
    assert np.isnan(first.bits[0]) and np.isfinite(first.bits[1:]).all()
    session.feed(TEXT[:52])
    before = arrays_of(session)
    found = session.surprise(TEXT[52:80])
    assert all(np.array_equal(x, y) for x, y in zip(before, arrays_of(session), strict=True))
    model, ids = model_of(name), mx.array([ids_of(TEXT[:80])])
    logits = model(ids)[0, 51:79]
    log_probs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    expected = -mx.take_along_axis(log_probs, ids[0, 52:][:, None], axis=-1)[:, 0] / np.log(2)
    assert np.allclose(found.bits, np.array(expected), atol=1e-3)


def test_a_trace_shows_every_memory_at_every_token(model_of: GetModel) -> None:
    session = MemorySession(model_of("mac"))
    session.feed(TEXT[:10])
    works = session.surprise(TEXT[10:25], trace=True).works
    assert len(works) == 2 and all(work.surprise.shape == (1, 2, 2, 15) for work in works)
    assert all((work.surprise > 0).all() for work in works)


def test_snapshot_restore_fork_and_reset(model_of: GetModel) -> None:
    session = MemorySession(model_of("mag"))
    session.feed(FACT)
    snapshot, fork, copy = session.snapshot(), session.fork(), session.fork()
    session.feed(TEXT[:30])
    assert same(fork, copy) and not same(session, fork) and fork.position == len(FACT)
    session.restore(snapshot)
    assert same(session, fork)
    fork.reset()
    assert fork.position == 0 and fork.nbytes == 0 and same(session, copy)
    with pytest.raises(ValueError, match="must be a MemoryState, got MAGState"):
        MemorySession(model_of("lmm-matrix")).restore(snapshot)


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_session_goes_on_as_if_it_had_never_stopped(model_of: GetModel, name: str, tmp_path: Path) -> None:
    session, path = MemorySession(model_of(name)), tmp_path / "kept.safetensors"
    session.feed(TEXT[:37])
    session.save(path)
    loaded = MemorySession(model_of(name))
    loaded.load(path)
    assert same(session, loaded)
    assert session.generate("", 8) == loaded.generate("", 8)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.safetensors"]


def test_other_and_damaged_files_are_refused_and_nothing_is_lost(model_of: GetModel, tmp_path: Path) -> None:
    session, path = MemorySession(model_of("lmm")), tmp_path / "kept.safetensors"
    session.feed(FACT)
    session.save(path)
    whole = path.read_bytes()
    before = session.fork()

    mx.random.seed(5)
    stranger = MemorySession(Titans(config_of("lmm")))
    stranger.feed("x")
    for other, message in ((stranger, "another model's"), (MemorySession(model_of("mac")), "another model's")):
        kept = other.fork()
        with pytest.raises(ValueError, match=message):
            other.load(path)
        assert other.position == kept.position and (not other.position or same(other, kept))

    damaged = tmp_path / "damaged.safetensors"
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in (header + 3, header + (len(whole) - header) // 2, len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        damaged.write_bytes(changed)
        with pytest.raises(ValueError, match="is damaged"):
            session.load(damaged)
    for size in (0, 4, header - 5, header + 5, len(whole) - 1):
        damaged.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="is damaged"):
            session.load(damaged)
    for place in range(0, header, 7):
        changed = bytearray(whole)
        changed[place] ^= 2
        damaged.write_bytes(changed)
        with pytest.raises(ValueError, match=r"is damaged|is not a session|another model's"):
            session.load(damaged)
    damaged.write_bytes(whole.replace(b'"position":"22"', b'"position":"23"'))
    with pytest.raises(ValueError, match="is damaged"):
        session.load(damaged)
    with pytest.raises(FileNotFoundError):
        session.load(tmp_path / "none.safetensors")
    assert same(session, before)


def test_a_killed_save_leaves_the_file_before(model_of: GetModel, tmp_path: Path, monkeypatch) -> None:
    session, path = MemorySession(model_of("lmm")), tmp_path / "kept.safetensors"
    session.feed(FACT)
    session.save(path)
    whole = path.read_bytes()
    session.feed(FACT)

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        session.save(path)
    assert path.read_bytes() == whole and len(list(tmp_path.iterdir())) == 1


def test_only_promote_puts_a_session_into_a_model_and_into_a_new_one(model_of: GetModel) -> None:
    for name in ("lmm", "lmm-matrix", "mac", "mag", "mal"):
        model = model_of(name)
        before = [np.array(leaf) for _, leaf in tree_flatten(model.parameters())]
        session = MemorySession(model)
        session.feed(FACT * 3)
        promoted = session.promote()
        for leaf, (_, now) in zip(before, tree_flatten(model.parameters()), strict=True):
            assert np.array_equal(leaf, np.array(now))
        changed = {
            path.split(".")[-1]
            for (path, a), (_, b) in zip(
                tree_flatten(model.parameters()), tree_flatten(promoted.parameters()), strict=True
            )
            if not mx.array_equal(a, b)
        }
        assert changed and all(path.startswith("initial_weights_") for path in changed)
        if name == "mac":
            # No persistent tokens go into its memory: it is born with just what the session's held.
            held = session.snapshot().states[0].memory.weights
            born = promoted.layers[0].init_state(1).memory.weights
            assert all(mx.array_equal(a, b) for a, b in zip(held, born, strict=True))
        state = session.snapshot().states[0]
        weights = getattr(state, "memory", state).weights
        born = next(path for path in tree_flatten(promoted.layers[0].parameters()) if "initial_weights_1" in path[0])
        assert mx.array_equal(born[1], weights[0][0])
    with pytest.raises(ValueError, match="must have a memory"):
        session = MemorySession(model_of("transformer"))
        session.feed("x")
        session.promote()


def test_a_seed_leaves_other_draws_as_they_were(model_of: GetModel) -> None:
    def continued(between: bool) -> str:
        mx.random.seed(4)
        session = MemorySession(model_of("lmm"))
        first = session.generate("the", 5, temperature=1.0)
        if between:
            MemorySession(model_of("lmm")).generate("the", 5, temperature=1.0, seed=1)
        return first + session.generate("", 20, temperature=1.0)

    assert continued(False) == continued(True)


def test_nothing_is_put_around_a_text(model_of: GetModel) -> None:
    tokenizer = byte_tokenizer()
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|end|> $A <|end|>", special_tokens=[("<|end|>", 256)]
    )
    assert tokenizer.encode("ab") == [256, 97, 98, 256]
    session = MemorySession(model_of("lmm"), tokenizer)
    assert session.feed("ab") == 2 and session.surprise("cd").ids == [99, 100]


def test_a_file_of_one_line_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    path.write_text("ab" * FILE_PIECE + "\nend\n")
    pieces = list(_file_pieces(path))
    assert "".join(pieces) == path.read_text() and max(map(len, pieces)) <= 2 * FILE_PIECE


def test_a_file_that_cannot_be_written_says_so(model_of: GetModel, tmp_path: Path) -> None:
    session = MemorySession(model_of("lmm"))
    session.feed(FACT)
    with pytest.raises(OSError, match="cannot be written"):
        session.save(tmp_path / "none" / "kept.safetensors")
    assert session.position == len(FACT)


def test_a_snapshot_of_other_ids_is_refused(model_of: GetModel) -> None:
    session, other = MemorySession(model_of("lmm")), MemorySession(Titans(config_of("lmm", vocab_size=300)))
    other.feed("abc")
    with pytest.raises(ValueError, match="snapshot must be of a model of 257 ids"):
        session.restore(other.snapshot())


def test_memory_does_not_grow_with_what_is_fed(model_of: GetModel, tmp_path: Path) -> None:
    session = MemorySession(model_of("mac"), piece=64)
    ids = np.lib.format.open_memmap(tmp_path / "ids.npy", mode="w+", dtype=np.uint16, shape=(6000,))
    ids[:] = np.resize(ids_of(TEXT), 6000)
    session.feed(ids[:600])
    mx.reset_peak_memory()
    session.feed(ids[600:1200])
    near, held = mx.get_peak_memory(), session.nbytes
    mx.reset_peak_memory()
    seen = []
    session.feed(ids[1200:], seen.append)
    assert mx.get_peak_memory() <= 1.1 * near
    assert session.nbytes == held and session.position == 6000 and seen[-1] == 4800
    assert session.feed([]) == session.feed("") == 0


def test_nor_does_it_grow_with_what_is_predicted() -> None:
    session = MemorySession(Titans(config_of("lmm").replace(vocab_size=4096)), piece=16)
    peaks = []
    for length in (64, 1024):
        mx.reset_peak_memory()
        session.surprise(ids_of(TEXT * 10)[:length])
        peaks.append(mx.get_peak_memory())
    assert peaks[1] <= 1.1 * peaks[0]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda s: s.generate(""), "prompt must not be empty before anything was read"),
        (lambda s: s.feed([999]), r"must lie in \[0, 257\)"),
        (lambda s: s.feed([0.5]), "source must be a text, a Path or integers"),
        (lambda s: fed(s).save("x.bin"), r"path must end in .safetensors"),
        (lambda s: s.save("x.safetensors"), "must have read something"),
        (lambda s: s.promote(), "must have read something"),
        (lambda s: s.surprise(""), "at least one entry"),
        (lambda s: s.surprise([1.9, 2.5]), "source must be a text or integers"),
        (lambda s: s.generate(None), "prompt must be a text or integers"),
        (lambda s: s.feed([300]), r"source must lie in \[0, 257\)"),
        (lambda s: s.surprise([300]), r"source must lie in \[0, 257\)"),
        (lambda s: s.surprise([2**32 + 5]), r"source must lie in \[0, 257\)"),
        (lambda s: s.generate("a", 0), "max_tokens must be an integer >= 1"),
        (lambda s: s.generate("a", temperature=-1), "temperature must be"),
        (lambda s: MemorySession(s.model, piece=0), "piece must be an integer >= 1"),
        (lambda s: MemorySession("model"), "model must be a Titans"),
    ],
)
def test_bad_input_is_named_and_nothing_is_lost(
    model_of: GetModel, act: Callable[[MemorySession], object], message: str
) -> None:
    session = MemorySession(model_of("lmm"))
    with pytest.raises(ValueError, match=message):
        act(session)
    assert session.position == 0
