"""The same training run in PyTorch, to compare losses and time with `crisp train --no-shuffle --dropout 0`.

    pip install torch transformers
    python pytorch_train.py MODEL_DIR DATA_DIR --max-steps 10 [--metrics RUN_DIR/metrics.jsonl]

MODEL_DIR must hold weights (a run of `crisp train --learning-rate 0 --max-steps 1` writes fresh ones).
Prints one line a step; with --metrics, Crisp's loss beside it and the largest relative difference.
"""

import argparse
import json
import time

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

arguments = argparse.ArgumentParser()
arguments.add_argument("model")
arguments.add_argument("data")
arguments.add_argument("--max-steps", type=int, default=10)
arguments.add_argument("--batch-size", type=int, default=32)
arguments.add_argument("--learning-rate", type=float, default=5e-5)
arguments.add_argument("--warmup-steps", type=int, default=None)
arguments.add_argument("--metrics")
a = arguments.parse_args()

tokenizer = AutoTokenizer.from_pretrained(a.model)
model = AutoModelForSequenceClassification.from_pretrained(
    a.model, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0
)
model.train()
rows = [line.rstrip("\n").split("\t") for line in open(f"{a.data}/train.tsv", encoding="utf-8")][1:]
decayed = [p for p in model.parameters() if p.dim() > 1]
others = [p for p in model.parameters() if p.dim() <= 1]
optimizer = torch.optim.AdamW(
    [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=a.learning_rate
)
# Crisp's default warm-up: 6 % of the steps.
warmup = round(0.06 * a.max_steps) if a.warmup_steps is None else a.warmup_steps
schedule = get_linear_schedule_with_warmup(optimizer, warmup, a.max_steps)
theirs = {}
if a.metrics:
    for line in map(json.loads, open(a.metrics)):
        if "loss" in line:
            theirs[line["step"]] = line["loss"]

worst = 0.0
times = []
for step in range(1, a.max_steps + 1):
    batch = rows[(step - 1) * a.batch_size : step * a.batch_size]
    encoded = tokenizer([text for text, _ in batch], truncation=True, max_length=128, padding=True, return_tensors="pt")
    labels = torch.tensor([int(label) for _, label in batch])
    started = time.perf_counter()
    loss = model(**{k: encoded[k] for k in ("input_ids", "attention_mask")}, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    times.append(time.perf_counter() - started)
    line = f"step {step}  loss {loss.item():.6f}  {times[-1]:.2f} s"
    if step in theirs:
        difference = abs(theirs[step] - loss.item()) / abs(loss.item())
        worst = max(worst, difference)
        line += f"  crisp {theirs[step]:.6f}  relative difference {difference:.1e}"
    print(line, flush=True)
print(f"median {sorted(times)[len(times) // 2]:.2f} s a step, {torch.get_num_threads()} threads")
if theirs:
    print(f"largest relative difference of the loss: {worst:.1e}")
