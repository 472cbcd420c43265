"""Talk to a model whose memory lasts: it learns from what it is fed, and the memory can be kept.

    python scripts/session.py runs/first/model
    python scripts/session.py runs/first/model --resume notes.safetensors

Commands; everything else is a prompt that the model continues:

    /feed FILE       read a text file          /surprise TEXT   bits per token if TEXT came next
    /save FILE       keep the memory           /load FILE       go on from a memory that was kept
    /undo            before what changed it last              /reset           forget everything
    /where           tokens read, bytes held   /quit
"""

import argparse
from pathlib import Path

import numpy as np

from titans_mlx.lm import MemorySession, from_pretrained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--resume", type=Path, help="a memory that was kept")
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.7)
    given = parser.parse_args()
    try:
        session = MemorySession(*from_pretrained(given.model))
        if given.resume:
            session.load(given.resume)
    except (OSError, ValueError) as error:
        raise SystemExit(f"session.py: {error}") from error
    talk(session, given.max_tokens, given.temperature)


def talk(session: MemorySession, max_tokens: int, temperature: float) -> None:
    """Read commands and prompts until the end of the input."""
    before = session.snapshot()
    while True:
        try:
            line = input("> ")
        except EOFError:
            return
        except KeyboardInterrupt:
            print("\n! /save FILE keeps the memory, /quit leaves")
            continue
        command, _, rest = line.partition(" ")
        now = session.snapshot()
        try:
            if command == "/quit":
                return
            if not command.startswith("/"):
                print(session.generate(line, max_tokens, temperature=temperature))
            elif command == "/undo":
                session.restore(before)
                print(f"{session.position:,} tokens read")
                continue
            else:
                print(obey(session, command, rest.strip()))
        except (OSError, ValueError) as error:
            print(f"! {error}")
        except KeyboardInterrupt:
            print("\n! stopped; the memory is as it was")
        if session.snapshot() is not now:
            before = now


def obey(session: MemorySession, command: str, rest: str) -> str:
    """One command; what there is to say of it."""
    if command == "/feed":
        return f"{session.feed(Path(rest)):,} tokens read, {session.position:,} in all"
    if command == "/surprise":
        bits = session.surprise(rest).bits
        # The first token of all follows nothing.
        known = bits[np.isfinite(bits)]
        return f"{known.mean():.2f} bits per token, at most {known.max():.1f}" if len(known) else "nothing to go by yet"
    if command == "/save":
        session.save(Path(rest))
        return f"kept in {rest}"
    if command == "/load":
        session.load(Path(rest))
        return f"{session.position:,} tokens read"
    if command == "/reset":
        session.reset()
        return "forgotten"
    if command == "/where":
        return f"{session.position:,} tokens read, {session.nbytes:,} bytes held"
    raise ValueError(f"command must be one of /feed /surprise /save /load /undo /reset /where /quit, got {command}")


if __name__ == "__main__":
    main()
