"""The training step that `crisp bench step` times, in PyTorch: on CUDA where there is any, else on the CPU.

    pip install torch transformers
    python pytorch_step.py --model DIR --batch-size B (--length L | --data D) [--steps N]

Float32 without TF32, eager, weights fresh unless --weights pretrained. One line of JSON on stdout.
"""

import argparse
import json
import statistics
import sys
import time

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True, help="a directory with config.json, and for --data a tokenizer")
parser.add_argument("--batch-size", type=int, default=32)
source = parser.add_mutually_exclusive_group(required=True)
source.add_argument("--length", type=int, help="one batch of random tokens, every sentence of this length")
source.add_argument("--data", help="a directory with SST-2's train.tsv: its batches, padded to their longest")
parser.add_argument("--steps", type=int, default=3, help="measured after one that warms up; the median counts")
parser.add_argument("--weights", choices=["fresh", "pretrained"], default="fresh")
a = parser.parse_args()

torch.manual_seed(42)
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

config = AutoConfig.from_pretrained(a.model)
if a.weights == "fresh":
    model = AutoModelForSequenceClassification.from_config(config)
else:
    model = AutoModelForSequenceClassification.from_pretrained(a.model)
model.to(device).float().train()
decayed = [p for p in model.parameters() if p.dim() > 1]
others = [p for p in model.parameters() if p.dim() <= 1]
optimizer = torch.optim.AdamW(
    [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=5e-5
)


def random_batch():
    ids = torch.randint(config.vocab_size, (a.batch_size, a.length))
    labels = torch.arange(a.batch_size) % 2
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def sst2_batches():
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    longest = min(128, config.max_position_embeddings)
    with open(f"{a.data}/train.tsv", encoding="utf-8") as file:
        rows = [line.rstrip("\n").rsplit("\t", 1) for line in file][1:]
    # A file that is too short starts again from its first batch; no batch is smaller.
    for start in range(0, len(rows) - a.batch_size + 1, a.batch_size)[: a.steps + 1]:
        texts, labels = zip(*rows[start : start + a.batch_size])
        encoded = tokenizer(list(texts), truncation=True, max_length=longest, padding=True, return_tensors="pt")
        names = ("input_ids", "attention_mask")
        yield {name: encoded[name] for name in names} | {"labels": torch.tensor([int(label) for label in labels])}


batches = [random_batch()] if a.length is not None else list(sst2_batches())
times = []
for step in range(a.steps + 1):
    started = time.perf_counter()
    batch = {name: values.to(device) for name, values in batches[step % len(batches)].items()}
    loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    value = loss.item()  # Waits for all of the step.
    times.append(time.perf_counter() - started)
    print(f"step {step}  loss {value:.6f}  {times[-1]:.3f} s", file=sys.stderr, flush=True)

first, *measured = times
# The upper median of an even number, like the program beside this one.
seconds = statistics.median_high(measured)
adapter = f"{torch.get_num_threads()} CPU threads"
if device.type == "cuda":
    adapter = torch.cuda.get_device_name()
report = {
    "seconds_per_step": seconds,
    "sentences_per_second": a.batch_size / seconds,
    "first_step_seconds": first,
    "framework": f"pytorch {torch.__version__}",
    "adapter": adapter,
}
print(json.dumps(report))
