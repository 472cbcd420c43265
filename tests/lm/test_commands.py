"""mlx-lm's own commands, run offline on a small trained model."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from titans_mlx import Titans
from titans_mlx.lm import MemorySession, byte_tokenizer, from_pretrained, save_pretrained

from .conftest import MODELS, TEXT, config_of, ids_of, trained

pytestmark = pytest.mark.slow
GetFolder = Callable[[str], Path]
PROMPT = "the cat sat"
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def mlx_lm(command: str, *arguments: object, text: str | None = None) -> str:
    """What a command printed; fails if it does."""
    line = [sys.executable, "-m", "mlx_lm", command, *map(str, arguments), "--trust-remote-code"]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, input=text, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return COLOUR.sub("", done.stdout + done.stderr)


def generated(folder: Path, *arguments: object) -> str:
    """The text that mlx_lm.generate gave between its two lines."""
    options = ["--prompt", PROMPT, "-m", 12, "--ignore-chat-template", "--temp", 0]
    return mlx_lm("generate", "--model", folder, *options, *arguments).split("==========")[1].strip("\n")


def write_texts(folder: Path, text: str) -> Path:
    """A folder of lines of json, as mlx_lm.lora and perplexity read them."""
    folder.mkdir()
    for part in ("train", "valid", "test"):
        lines = [json.dumps({"text": text[start : start + 60]}) for start in range(0, 480, 40)]
        (folder / f"{part}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_generate(folder_of: GetFolder, model_of: Callable[[str], Titans], name: str) -> None:
    # mlx-lm's detokenizer drops a leading space.
    assert generated(folder_of(name)).lstrip() == MemorySession(model_of(name)).generate(PROMPT, 12).lstrip()


def test_chat_goes_on(folder_of: GetFolder) -> None:
    said = mlx_lm("chat", "--model", folder_of("mac"), "-m", 8, "--temp", 0, text="hello\nand you?\nq\n")
    assert said.count("8 tokens ·") == 2


@pytest.mark.parametrize("name", ["mac", "transformer"])
def test_a_stored_prompt_cache_is_gone_on_with(folder_of: GetFolder, name: str, tmp_path: Path) -> None:
    folder, cache = folder_of(name), tmp_path / "cache.safetensors"
    mlx_lm("cache_prompt", "--model", folder, "--prompt", TEXT[:40], "--prompt-cache-file", cache)
    said = generated(folder, "--prompt-cache-file", cache)
    # cache_prompt puts the chat template around its prompt, and leaves its end open.
    read = f"user: {TEXT[:40]}"
    session = MemorySession(from_pretrained(folder)[0])
    session.feed(read)
    assert said.lstrip() == session.generate(PROMPT, 12).lstrip()


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_lora_trains_and_leaves_the_initial_weights_alone(folder_of: GetFolder, tmp_path: Path, kind: str) -> None:
    folder, adapters = folder_of("mac"), tmp_path / "adapters"
    texts = write_texts(tmp_path / "texts", "One bird flew over 2 houses & 3 trees; none saw it! " * 20)
    options = ["--fine-tune-type", kind, "--iters", 6, "--batch-size", 2, "--val-batches", 1, "--num-layers", 2]
    options += ["--steps-per-report", 2, "--learning-rate", 1e-3, "--adapter-path", adapters, "--data", texts]
    said = mlx_lm("lora", "--model", folder, "--train", *options)
    losses = [float(loss) for loss in re.findall(r"^ +\d+ +(\d+\.\d+) [▼▲]", said, re.MULTILINE)]
    assert len(losses) == 3 and losses[-1] < losses[0]
    stored = mx.load(str(adapters / "adapters.safetensors"))
    assert stored and any("_proj" in name for name in stored)
    if kind == "lora":
        assert not any("initial_weights" in name for name in stored)
        mlx_lm("fuse", "--model", folder, "--adapter-path", adapters, "--save-path", tmp_path / "fused")
        before, after = (dict(tree_flatten(from_pretrained(f)[0].parameters())) for f in (folder, tmp_path / "fused"))
        assert before.keys() == after.keys()
        changed = {name for name in before if not mx.array_equal(before[name], after[name])}
        assert changed and all(name.endswith(".weight") for name in changed)
        assert len(generated(tmp_path / "fused")) > 0


def test_quantisation_leaves_gates_and_initial_weights_alone(tmp_path: Path) -> None:
    model = trained(config_of("mac", dim=64))
    save_pretrained(model, tmp_path / "whole")
    mlx_lm("convert", "--hf-path", tmp_path / "whole", "--mlx-path", tmp_path / "small", "-q", "--q-bits", 8)
    small, _ = from_pretrained(tmp_path / "small")
    before, after = (dict(tree_flatten(m.parameters())) for m in (model, small))
    quantised = {name.removesuffix(".scales") for name in after if name.endswith(".scales")}
    assert "layers.0.memory.q_proj" in quantised and not any("_gate" in name.split(".")[-1] for name in quantised)
    kept = [name for name in before if "initial_weights" in name or "_gate." in name]
    assert len(kept) == 16 and all(mx.array_equal(before[name], after[name]) for name in kept)
    tokens = mx.array([ids_of(TEXT[:60])])
    assert mx.abs(mx.softmax(small(tokens)) - mx.softmax(model(tokens))).max().item() < 0.1
    assert len(generated(tmp_path / "small")) > 0


def test_any_tokenizer_is_saved_and_quantised_models_are_not(model_of: Callable[[str], Titans], tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    save_pretrained(model_of("lmm"), tmp_path / "a", tokenizer)
    model, wrapped = from_pretrained(tmp_path / "a")
    save_pretrained(model, tmp_path / "b", wrapped)
    _, again = from_pretrained(tmp_path / "b")
    assert again.encode("ab") == tokenizer.encode("ab") == [97, 98]
    with pytest.raises(ValueError, match="tokenizer must have at most the model's vocab_size = 256 ids, got 257"):
        save_pretrained(Titans(config_of("lmm", vocab_size=256)), tmp_path / "c")
    nn.quantize(model, group_size=32, class_predicate=lambda path, module: isinstance(module, nn.Embedding))
    with pytest.raises(ValueError, match="model must not be quantised"):
        save_pretrained(model, tmp_path / "d")


def test_a_folder_half_written_is_no_models(model_of: Callable[[str], Titans], tmp_path: Path, monkeypatch) -> None:
    save_pretrained(model_of("mag"), tmp_path / "model")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("titans_mlx.lm.pretrained.write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        save_pretrained(trained(config_of("mag", window_size=5), steps=1), tmp_path / "model")
    with pytest.raises(FileNotFoundError, match="holds no model"):
        from_pretrained(tmp_path / "model")


def test_perplexity(folder_of: GetFolder, tmp_path: Path) -> None:
    options = [
        "--data-path",
        write_texts(tmp_path / "texts", TEXT),
        "--sequence-length",
        32,
        "--num-samples",
        4,
        "--batch-size",
        2,
    ]
    said = mlx_lm("perplexity", "--model", folder_of("mac"), *options)
    value = float(re.search(r"Perplexity: (\d+\.\d+)", said)[1])
    assert 1 < value < 10


@pytest.fixture
def server(folder_of: GetFolder) -> Iterator[str]:
    """The address of a running server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(folder_of("mac")), "--trust-remote-code"]
    running = subprocess.Popen([*command, "--port", str(port)], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1/completions"
    finally:
        running.terminate()
        running.wait(timeout=30)


def ask(address: str, prompt: str, **options: object) -> str:
    body = json.dumps({"prompt": prompt, "max_tokens": 12, "temperature": 0, **options}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        text = answer.read().decode()
    if not options.get("stream"):
        return json.loads(text)["choices"][0]["text"]
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return "".join(json.loads(line)["choices"][0]["text"] for line in lines if line != "[DONE]")


def test_requests_at_once_do_not_mix(server: str, model_of: Callable[[str], Titans]) -> None:
    prompts = [TEXT[start : start + 8 + 3 * start] for start in range(6)]
    expected = [MemorySession(model_of("mac")).generate(prompt, 12) for prompt in prompts]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda prompt: ask(server, prompt), prompts))
    assert [answer.lstrip() for answer in answers] == [answer.lstrip() for answer in expected]
    assert ask(server, prompts[0], stream=True).lstrip() == expected[0].lstrip()
    # What was read for one request is there for the next that begins with it.
    assert ask(server, prompts[0]).lstrip() == expected[0].lstrip()


HARNESS = """
import json, sys
import lm_eval
from lm_eval.tasks import TaskManager
from mlx_lm.evaluate import MLXLM
model = MLXLM(sys.argv[1], trust_remote_code=True, use_chat_template=False)
manager = TaskManager(include_path=sys.argv[2])
found = lm_eval.simple_evaluate(model=model, tasks=["follows"], task_manager=manager)
print("accuracy", found["results"]["follows"]["acc,none"])
"""


def test_evaluation_harness(folder_of: GetFolder, tmp_path: Path) -> None:
    """A task of our own through mlx-lm's model class of the harness: which of two words follows."""
    lines = [{"prompt": TEXT[:at], "choices": [TEXT[at : at + 3], "qzx"], "answer": 0} for at in (11, 23, 35, 47)]
    (tmp_path / "follows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "follows.yaml").write_text(
        f"task: follows\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path}/follows.jsonl\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{prompt}}'\ndoc_to_target: answer\n"
        "doc_to_choice: '{{choices}}'\ntarget_delimiter: ''\nmetric_list:\n  - metric: acc\n"
    )
    line = [sys.executable, "-c", HARNESS, str(folder_of("mac")), str(tmp_path)]
    environment = {**ENVIRONMENT, "HF_HOME": str(tmp_path / "hub"), "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
    assert "accuracy 1.0" in done.stdout, done.stdout + done.stderr
