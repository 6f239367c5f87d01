#!/usr/bin/env python3
"""Asks the example model about a long text, inside a budget, and shows answers, plan, peak and speed.

Called by tools/demo. Every figure is taken from the program's own --json output of these very runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "headroom-example.hrm")
CLASSIFIER = os.path.join(HERE, "headroom-pictures-int8.hrm")
DRAWINGS, DRAWING_SEED, PICTURE_BUDGET = 8, 2042, "4M"


def headroom(program, *arguments):
    """The JSON that one command prints; its own message when it fails."""
    done = subprocess.run([program, *arguments, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)  # the program has said why, and what to do, on stderr
    return json.loads(done.stdout)


def mib(count):
    return f"{count / 2**20:.1f} MiB"


def ask(program, budget, text, question):
    """One run: the whole text and the question in, one line out."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as prompt:
        prompt.write(text + question["prompt"])
        prompt.flush()
        return headroom(program, "run", MODEL, "--prompt-file", prompt.name, "--budget", budget,
                        "--max-tokens", "16", "--stop", "\\n")


def show_answers(program, budget, text, questions):
    runs = []
    for question in questions:
        run = ask(program, budget, text, question)
        runs.append(run)
        answer, wanted = run["text"].strip(), question["answer"].strip()
        asked = question["prompt"].replace("Question:", "").replace("\nAnswer:", "").strip()
        print(f"  Q  {asked}")
        print(f"  A  {answer:<28} {'correct' if answer == wanted else 'wrong: ' + wanted}, "
              f"said {question['distance']:,} tokens earlier")
    return runs


def show_costs(program, budget, run):
    plan, measured = run["plan"], run["measured"]
    table = subprocess.run([program, "plan", MODEL, "--budget", budget, "--context", str(plan["context_tokens"])],
                           stdout=subprocess.PIPE, text=True, check=True).stdout
    print("\nPlan, made before anything was allocated")
    lines = table.splitlines()[1:]
    end = next(i for i, line in enumerate(lines) if line.startswith("  total"))
    for line in lines[:end + 1]:
        print("  " + line)
    if plan["quality"]:
        quality = plan["quality"]
        print(f"  the cache {plan['kv']} was measured, {quality['task']}: {quality['value']:.0%} right, "
              f"{quality['reference']:.0%} with nothing compressed")
    print("Measured")
    print(f"  arenas           {mib(measured['arena_touched_bytes']):>10}   touched, of "
          f"{mib(measured['arena_peak_bytes'])} allocated once and {mib(measured['arena_planned_bytes'])} planned")
    print(f"  whole process    {mib(measured['process_private_dirty_bytes']):>10}   private, with the program itself "
          "and the C++ library")


def show_speed(runs):
    best = max(runs, key=lambda run: run["prefill_tokens_per_second"])
    decode = max(run["decode_tokens_per_second"] for run in runs)
    print(f"Speed\n  reads {best['prefill_tokens_per_second']:,.0f} tokens/s, writes {decode:,.0f} tokens/s at "
          f"{best['prompt_tokens']:,} tokens of context\n  {best['device']}, {best['plan']['threads']} threads")


def show_pictures(program):
    """Draws pictures of the held-out split and classifies them; how many were wrong."""
    draw = os.path.join(os.path.dirname(program), "headroom-draw")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([draw, folder, "--count", str(DRAWINGS), "--split", "held-out", "--seed", str(DRAWING_SEED)],
                       stdout=subprocess.DEVNULL, check=True)
        with open(os.path.join(folder, "labels.txt"), encoding="utf-8") as file:
            labels = file.read().splitlines()
        seen = headroom(program, "classify", CLASSIFIER, folder, "--top", "1", "--budget", PICTURE_BUDGET,
                        "--threads", "1")
    speed, wrong = seen["speed"], 0
    print(f"\nA vision model of {seen['model']['parameters'] / 1e6:.1f} M parameters in 8 bits looks at {DRAWINGS} "
          f"drawings, all in {PICTURE_BUDGET}")
    for result in seen["results"]:
        drawn = labels[int(os.path.basename(result["file"]).split("_")[0])]
        best = result["classes"][0]
        wrong += best["label"] != drawn
        print(f"  {best['label']:<24} {best['probability']:5.0%}   "
              f"{'correct' if best['label'] == drawn else 'wrong: ' + drawn}")
    print(f"  {speed['ms_per_picture']:.2f} ms a picture on one thread, {mib(speed['arena_peak_bytes'])} allocated once, "
          f"{mib(speed['arena_planned_bytes'])} planned")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="path of headroom")
    parser.add_argument("--budget", default="8M", help="bytes for everything (default 8M)")
    options = parser.parse_args()
    with open(os.path.join(HERE, "demo.txt"), encoding="utf-8") as file:
        text = file.read()
    with open(os.path.join(HERE, "demo.json"), encoding="utf-8") as file:
        questions = json.load(file)["questions"]

    facts = headroom(options.program, "plan", MODEL, "--kv", "f32", "--context", "0")
    model, plain = facts["model"], facts["plan"]
    naive = 4 * model["parameters"] + plain["state_bytes"]
    print(f"\nA model of {model['parameters'] / 1e6:.1f} M parameters reads {len(text):,} characters and answers.")
    print(f"  in 32-bit floats, at its {plain['context_tokens']:,} tokens of context, it would need {mib(naive)}")
    print(f"  the budget for everything is {options.budget}\n")
    runs = show_answers(options.program, options.budget, text, questions)
    show_costs(options.program, options.budget, runs[-1])
    show_speed(runs)
    right = sum(run["text"].strip() == q["answer"].strip() for run, q in zip(runs, questions))
    wrong = len(questions) - right + show_pictures(options.program)
    if wrong > 0:
        print(f"\n{wrong} answers were wrong")
    return 0 if wrong == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
