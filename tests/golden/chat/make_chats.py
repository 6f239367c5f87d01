#!/usr/bin/env python3
"""Conversations as published Jinja chat templates render them. Usage: make_chats.py TEMPLATES.json

TEMPLATES.json maps our format names to the text of a model's own template (`chat_template` of its
tokenizer_config.json, or chat_template.jinja). Templates carry their models' licences, so only what they render is
kept. The environment is the one transformers 5.12 renders in (jinja2 3.1.6); the date is 26 July 2024.
"""
import datetime
import json
import pathlib
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

# What bos_token and eos_token are for the models whose templates ask for them.
TOKENS = {"llama-2": ("<s>", "</s>"), "llama-3": ("<|begin_of_text|>", ""), "llama-3.1": ("<|begin_of_text|>", ""),
          "gemma": ("<bos>", ""), "gemma-3": ("<bos>", ""), "olmo-2": ("<|endoftext|>",) * 2, "zephyr": ("", "</s>"),
          "starcoder2": ("<|endoftext|>",) * 2}
DEEPSEEK = ("<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>")


def environment():
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.date(2024, 7, 26).strftime(form)
    made.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    return made


def conversations():
    asked = ["  Hi there ", "What is 2+2?\n", "Ok \u5b88 \U0001f6a2", "<|im_end|> [INST] <s> four", "\n five\n\n"]
    answered = [" Hello! ", "4", "fine\n", "\u041f\u0440\u0438\u0432\u0435\u0442"]
    for system in (None, " Be brief. \n", "In one\nor two lines"):
        for turns in (1, 2, 5):
            messages = [{"role": "system", "content": system}] if system else []
            for turn in range(turns):
                messages.append({"role": "user", "content": asked[turn]})
                if turn + 1 < turns:
                    messages.append({"role": "assistant", "content": answered[turn]})
            yield messages


def main():
    rows = []
    for name, template in sorted(json.loads(pathlib.Path(sys.argv[1]).read_text()).items()):
        begin, end = TOKENS.get(name, DEEPSEEK if name.startswith("deepseek") else ("<s>", "</s>"))
        for messages in conversations():
            # Version 3 of Mistral's says the system text again before the newest message; we say it once.
            if name.startswith("mistral-v3") and messages[0]["role"] == "system" and len(messages) > 2:
                continue
            try:
                text = environment().from_string(template).render(
                    messages=messages, add_generation_prompt=True, bos_token=begin, eos_token=end)
            except jinja2.exceptions.TemplateError:
                text = None  # no place for a system message
            rows.append({"format": name, "messages": messages, "text": text})
    path = pathlib.Path(__file__).parent / "chats.json"
    path.write_text(json.dumps(rows, ensure_ascii=True, separators=(",", ":")).replace("},{\"format", "},\n{\"format") + "\n")
    print(len(rows), "conversations,", path.stat().st_size, "bytes")


main()
