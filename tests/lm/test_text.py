"""Text becomes tokens once, whole or not at all; what a model predicts of it is scored by position and by length."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing

from titans_mlx import Titans
from titans_mlx.lm.corpus import Document, documents, part_of, split
from titans_mlx.lm.scores import bits_per_byte, by_length, by_position, nats
from titans_mlx.lm.tokenizer import Bytes, byte_tokenizer
from titans_mlx.lm.tokens import gather, prepare
from titans_mlx.lm.training import TextConfig, far_scores, train_text
from titans_mlx.training import TrainConfig

from .conftest import TEXT, config_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 120 documents, with something hidden and something that is no text."""
    folder = tmp_path_factory.mktemp("texts")
    for number in range(120):
        (folder / f"{number:03}.txt").write_text(f"Dökument {number}. " + "x" * (number // 2))
    (folder / ".hidden").write_text("hidden")
    (folder / "image.png").write_bytes(b"\xff\xfe\x00")
    return folder


def test_a_folder_a_file_and_lines_of_json(folder: Path, tmp_path: Path) -> None:
    found = list(documents(str(folder)))
    assert [document.name for document in found] == [f"{number:03}.txt" for number in range(120)]
    assert list(documents(str(folder / "007.txt"))) == [Document("007.txt", "Dökument 7. xxx")]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"text": "one"}\n\n{"text": "two", "other": 1}\n')
    assert [document.text for document in documents(str(lines))] == ["one", "two"]
    lines.write_text('{"text": "one"}\n{"txt": "two"}\n')
    with pytest.raises(ValueError, match="line 2 must be a JSON object with a key 'text'"):
        list(documents(str(lines)))
    lines.write_text('{"text": null}\n')
    with pytest.raises(ValueError, match="line 1 must have a text under 'text', got None"):
        list(documents(str(lines)))
    lines.write_text('{"text": "half \\ud83d a pair"}\n')
    assert [document.text for document in documents(str(lines))] == ["half ? a pair"]
    lines.write_bytes(b'{"text": "caf\xe9"}\n')
    assert [document.text for document in documents(str(lines))] == ["caf\ufffd"]


def test_the_standard_library_is_there_and_is_split_by_module() -> None:
    parts: dict[str, set[str]] = {}
    size = 0
    for part, document in split(documents("stdlib")):
        parts.setdefault(document.name, set()).add(part)
        size += len(document.text)
    assert all(len(found) == 1 for found in parts.values()) and size > 5e6
    assert {"asyncio", "json", "argparse"} <= parts.keys() and "test" not in parts
    assert {part for found in parts.values() for part in found} == {"train", "validation", "test"}


def test_few_documents_are_cut_and_many_are_sorted(folder: Path) -> None:
    text = "".join(chr(97 + number % 26) for number in range(100))
    cut = list(split([Document("a", text)]))
    assert [(part, len(document.text)) for part, document in cut] == [("train", 80), ("validation", 10), ("test", 10)]
    assert "".join(document.text for _, document in cut) == text
    assert all(part == part_of(document.name) for part, document in split(documents(str(folder))))
    # Sorted by their names, all thirty would be of two parts.
    found = list(split(Document(f"{number:02}.md", text) for number in range(1, 31)))
    assert [part for part, _ in found] == ["train", "validation", "test"] * 30


def test_nothing_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="got 'no/such': there is no such file or folder, and the package datasets is"):
        list(documents("no/such"))
    with pytest.raises(ValueError, match="source must hold text"):
        list(documents(str(tmp_path)))


def test_tokens_are_the_documents_each_with_its_end(folder: Path, tmp_path: Path) -> None:
    corpus = prepare(str(folder), tmp_path / "tokens")
    texts: dict[str, list[str]] = {}
    for part, document in split(documents(str(folder))):
        texts.setdefault(part, []).append(document.text)
    for part, tokens in (("train", corpus.train), ("validation", corpus.validation), ("test", corpus.test)):
        assert isinstance(tokens.ids, np.memmap) and tokens.ids.dtype == np.uint16
        expected = [number for text in texts[part] for number in (*text.encode(), 256)]
        assert tokens.ids.tolist() == expected
        assert [tokens.ids[start] for start in tokens.starts] == [ord("D")] * len(texts[part])
        assert tokens.bytes == sum(len(text.encode()) for text in texts[part])


def test_tokens_are_prepared_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(str(folder), tmp_path)
    monkeypatch.setattr("titans_mlx.lm.tokens.documents", lambda source: pytest.fail("tokenised again"))
    assert prepare(str(folder), tmp_path).meta == first.meta
    with pytest.raises(ValueError, match=r"holds tokens of source = .* got 'stdlib'"):
        prepare("stdlib", tmp_path)
    with pytest.raises(ValueError, match="holds tokens of tokenizer = 'bytes'"):
        prepare(str(folder), tmp_path, byte_tokenizer())


def test_half_written_tokens_are_never_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("titans_mlx.lm.tokens.write_json", fail)
        with pytest.raises(KeyboardInterrupt):
            prepare(str(folder), tmp_path)
    (tmp_path / "train.bin").write_bytes(b"xx")
    assert prepare(str(folder), tmp_path).train.ids[-1] == 256


def test_windows_are_of_the_text_and_pure_in_the_step(folder: Path, tmp_path: Path) -> None:
    train = prepare(str(folder), tmp_path).train
    batches = train.batches(4, 20, seed=3)
    tokens, targets = batches(7)
    assert tokens.shape == targets.shape == (4, 20)
    assert np.array_equal(tokens[:, 1:], targets[:, :-1])
    assert np.array_equal(batches(7)[0], tokens) and not np.array_equal(batches(8)[0], tokens)
    text = bytes(number if number < 256 else 0 for number in train.ids)
    assert all(bytes(row % 256 for row in window) in text for window in tokens)
    with pytest.raises(ValueError, match="length must be below the"):
        train.batches(1, 10**6, seed=0)


def test_windows_of_documents_are_different_and_stay_within(folder: Path, tmp_path: Path) -> None:
    train = prepare(str(folder), tmp_path).train
    ends = np.append(train.starts[1:], len(train.ids)) - 1
    starts = train.windows_within(15)
    assert len(set(starts)) == len(starts) and set(train.starts[ends - train.starts >= 15]) <= set(starts)
    tokens, targets = train.documents(len(starts), 15, seed=0)
    assert tokens.shape == targets.shape == (len(starts), 15)
    # A window ends before the next document begins; its last target may be the end of its own.
    assert (tokens != 256).all() and (targets[:, :-1] != 256).all()
    with pytest.raises(ValueError, match="count must be at most the 0 windows of 1000 tokens"):
        train.documents(1, 1000, seed=0)


def test_a_damaged_token_file_is_refused(folder: Path, tmp_path: Path) -> None:
    prepare(str(folder), tmp_path)
    whole = (tmp_path / "train.bin").read_bytes()
    (tmp_path / "train.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"train\.bin is damaged: it has"):
        _ = prepare(str(folder), tmp_path).train
    assert len(prepare(str(folder), tmp_path).test.ids)


def test_tokens_in_memory_are_those_on_the_disk(folder: Path, tmp_path: Path) -> None:
    corpus, gathered = prepare(str(folder), tmp_path), gather(str(folder))
    for part in ("train", "validation", "test"):
        stored = getattr(corpus, part)
        assert np.array_equal(stored.ids, gathered[part].ids) and np.array_equal(stored.starts, gathered[part].starts)
        for name in ("bytes", "ends", "text_sha256"):
            assert getattr(stored, name) == getattr(gathered[part], name)
        assert stored.ends == len(stored.starts) and stored.bytes_per_token < 1 == stored.bytes_per_token_within
    (tmp_path / "short.txt").write_text("a")
    with pytest.raises(ValueError, match="text for every part, got none for"):
        gather(str(tmp_path / "short.txt"))


def test_long_scores_are_of_as_many_windows_as_asked_for(folder: Path, tmp_path: Path) -> None:
    tokens = prepare(str(folder), tmp_path).train
    model = Titans(config_of("lmm"))
    scores = far_scores(model, tokens, TextConfig(length=16, documents=8))
    assert scores["documents"] == 8 and scores["length"] == 64 >= len(tokens.windows_within(64)) // 8
    assert len(tokens.windows_within(128)) < 8 <= len(tokens.windows_within(64))
    with pytest.raises(ValueError, match="which has 0 windows of 128 tokens within documents, got far=128"):
        far_scores(model, tokens, TextConfig(length=16, documents=8, far=128))


def test_a_text_config_that_cannot_be_scored_is_refused_before_anything_is_trained(
    folder: Path, tmp_path: Path
) -> None:
    text = {"source": str(folder), "length": 8, "documents": 2, "sample": 0}
    config = TrainConfig(steps=1, batch_size=1)
    with pytest.raises(ValueError, match=r"windows of 1000000 tokens within documents, got far=1000000"):
        train_text(tmp_path, config_of("lmm"), config, TextConfig(**text, far=10**6))
    assert not (tmp_path / "run").exists()
    train_text(tmp_path, config_of("lmm"), config, TextConfig(**text, far=16))
    assert (tmp_path / "scores.json").exists()
    for name, value in (("source", folder), ("prompt", 5)):
        with pytest.raises(ValueError, match=f"{name} must be a str, got"):
            TextConfig(**{**text, name: value})


@pytest.mark.parametrize(
    ("tokens", "targets", "message"), [(300, 1, "tokens must lie in"), (1, -1, "targets must lie in")]
)
def test_ids_that_are_not_the_models_are_not_scored(tokens: int, targets: int, message: str) -> None:
    model = Titans(config_of("lmm"))
    with pytest.raises(ValueError, match=message):
        nats(model, np.array([[5, tokens, 7]]), np.array([[5, targets, 7]]))


def test_tokenizers_that_put_something_around_a_text(folder: Path, tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|end|> $A <|end|>", special_tokens=[("<|end|>", 256)]
    )
    ids = prepare(str(folder), tmp_path / "theirs", tokenizer).train.ids
    assert np.array_equal(ids, prepare(str(folder), tmp_path / "ours").train.ids)


def test_scores_are_the_models_own_and_do_not_depend_on_pieces() -> None:
    mx.random.seed(1)
    model = Titans(config_of("mac"))
    ids = np.array([list(TEXT[start : start + 41].encode()) for start in (0, 5, 9)])
    losses = nats(model, ids[:, :-1], ids[:, 1:], batch_size=2, piece=7)
    logits = model(mx.array(ids[:, :-1]))
    log_probs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    expected = -mx.take_along_axis(log_probs, mx.array(ids[:, 1:, None]), axis=-1)[..., 0]
    assert np.allclose(losses, np.array(expected), atol=1e-3)
    forgetful = nats(model, ids[:, :-1], ids[:, 1:], piece=10, forget=lambda states: [None] * len(states))
    fresh = nats(model, ids[:, 10:20], ids[:, 11:21])
    assert np.allclose(forgetful[:, 10:20], fresh, atol=1e-4) and not np.allclose(losses[:, 10:20], fresh, atol=1e-3)


def test_bits_by_position_and_length() -> None:
    losses = np.array([[1.0, 2, 3, 4, 5], [3, 4, 5, 6, 7]]) * math.log(2)
    assert bits_per_byte(losses) == pytest.approx(4) and bits_per_byte(losses, 2.0) == pytest.approx(2)
    rows = by_position(losses)
    assert [(row["first"], row["last"]) for row in rows] == [(1, 1), (2, 2), (3, 4), (5, 5)]
    assert [row["bits_per_byte"] for row in rows] == pytest.approx([2, 3, 4.5, 6])
    assert [row["length"] for row in by_length(losses)] == [1, 2, 4, 5]
    assert [row["bits_per_byte"] for row in by_length(losses)] == pytest.approx([2, 2.5, 3.5, 4])


@pytest.mark.parametrize("text", ["plain", "naïve 漢字 🙂", " leading  spaces\n\ttabs\x00", "", "<|end|>"])
def test_byte_tokenizers_agree_and_lose_nothing(text: str) -> None:
    ours, theirs = Bytes(), byte_tokenizer()
    assert ours.decode(ours.encode(text)) == text
    if text != "<|end|>":
        assert theirs.encode(text) == ours.encode(text) and theirs.decode(ours.encode(text)) == text
    assert len(ours) == len(theirs) == 257 and ours.eos_token_id == theirs.eos_token_id == 256
    assert ours.decode([104, 105, 256]) == "hi"


@pytest.mark.slow
def test_the_script_trains_samples_and_goes_on(folder: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "train.py"
    command = [sys.executable, str(script), str(tmp_path / "run"), "--source", str(folder), "--batch-size", "4"]
    command += ["--length", "32", "--evaluate-every", "4", "--variant", "lmm", "--prompt", "D"]
    done = subprocess.run([*command, "--steps", "8"], capture_output=True, text=True, check=True)
    assert "step 4:" in done.stdout + done.stderr and "bits per byte" in done.stdout + done.stderr
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["trained_length"] == 32 and 0 < scores["bits_per_byte"] < 9
    records = [json.loads(line) for line in (tmp_path / "run" / "run" / "metrics.jsonl").read_text().splitlines()]
    samples = [record["sample"] for record in records if record["kind"] == "eval"]
    assert len(samples) == 2 and all(sample.startswith("D") for sample in samples)
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    again = subprocess.run([*command, "--steps", "9"], capture_output=True, text=True)
    assert again.returncode and "train.steps = 8, got 9" in again.stderr and "Traceback" not in again.stderr
    wrong = subprocess.run([*command, "--steps", "9", "--accumulate", "3"], capture_output=True, text=True)
    assert "train.py: accumulate must divide batch_size=4, got 3" in wrong.stderr and "Traceback" not in wrong.stderr


@pytest.mark.slow
def test_a_killed_script_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "train.py"
    options = ["--source", str(folder), "--batch-size", "4", "--length", "32", "--evaluate-every", "3", "--steps", "30"]
    command = [sys.executable, str(script), str(tmp_path / "run"), *options, "--variant", "lmm", "--optimizer", "muon"]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "run" / "run" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("step-*[1-9].safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    reached = int(sorted(checkpoints.glob("step-*.safetensors"))[-1].stem.split("-")[1])
    subprocess.run(command, capture_output=True, check=True)
    command[2] = str(tmp_path / "whole")
    subprocess.run(command, capture_output=True, check=True)

    def records(name: str) -> list[dict]:
        lines = (tmp_path / name / "run" / "metrics.jsonl").read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]

    assert 0 < reached < 30 and records("run") == records("whole")
