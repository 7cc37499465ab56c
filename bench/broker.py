"""Measures the embedded broker: rates, latencies, and the file append that bounds them."""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from kio.index import load_request_schema
from kio.serial import entity_reader

KILOBYTE = 1_000


async def measure(fsync: str, records: int, seconds: float) -> dict[str, float]:
    """One broker process, one producer and one consumer, records of 1 kB."""
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        process = _start(folder, fsync)
        try:
            assert process.stdout is not None
            bootstrap = process.stdout.readline().split()[1]
            await _create(bootstrap)
            cpu = [_cpu_seconds(process.pid)]
            produced = await _produce(bootstrap, records)
            cpu.append(_cpu_seconds(process.pid))
            consumed = await _consume(bootstrap, records)
            cpu.append(_cpu_seconds(process.pid))
            p50, p99 = await _end_to_end(bootstrap, seconds)
            memory = _memory_mb(process.pid)
        finally:
            process.terminate()
            process.wait()
    return {
        "produced_per_second": round(produced),
        "consumed_per_second": round(consumed),
        "broker_cpu_us_per_record_produced": round((cpu[1] - cpu[0]) / records * 1e6, 1),
        "broker_cpu_us_per_record_consumed": round((cpu[2] - cpu[1]) / records * 1e6, 1),
        "end_to_end_p50_ms": round(p50, 2),
        "end_to_end_p99_ms": round(p99, 2),
        "memory_mb": round(memory),
    }


def file_append(batches: int, size: int) -> float:
    """Batches per second that this machine appends to a plain file, each with one write."""
    data = os.urandom(size)
    with tempfile.NamedTemporaryFile() as file:
        begun = time.perf_counter()
        for _ in range(batches):
            os.write(file.fileno(), data)
        return batches / (time.perf_counter() - begun)


def decode_microseconds(size: int) -> float:
    """What kio needs to decode one produce request that carries `size` bytes of records."""
    read = entity_reader(load_request_schema(0, 7))
    records = size.to_bytes(4) + bytes(size)
    frame = b"\xff\xff" + b"\xff\xff" + bytes(4) + b"\x00\x00\x00\x01" + b"\x00\x01t"
    frame += b"\x00\x00\x00\x01" + bytes(4) + records
    begun = time.perf_counter()
    for _ in range(2_000):
        read(frame, 0)
    return (time.perf_counter() - begun) / 2_000 * 1e6


def _start(folder: str, fsync: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tidemill.broker", "--data-dir", folder, "--port", "0"]
    command += ["--fsync", fsync, "--group-initial-delay-ms", "0"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


async def _create(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("rate", 3, 1), NewTopic("latency", 1, 1)])
    await admin.close()


async def _produce(bootstrap: str, records: int) -> float:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=5, enable_idempotence=True
    )
    async with producer:
        value = os.urandom(KILOBYTE)
        begun = time.perf_counter()
        for index in range(records):
            await producer.send("rate", value, partition=index % 3)
        await producer.flush()
        return records / (time.perf_counter() - begun)


async def _consume(bootstrap: str, records: int) -> float:
    consumer = AIOKafkaConsumer("rate", bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer:
        begun, read = time.perf_counter(), 0
        while read < records:
            read += sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))
        return records / (time.perf_counter() - begun)


async def _end_to_end(bootstrap: str, seconds: float) -> tuple[float, float]:
    """Milliseconds from before the send until a group member has the record, at 200 a second."""
    delays: list[float] = []
    consumer = AIOKafkaConsumer("latency", bootstrap_servers=bootstrap, group_id="latency")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0)
    async with consumer, producer:
        task = asyncio.create_task(_receive(consumer, delays))
        begun = time.perf_counter()
        for index in range(int(seconds * 200)):
            await asyncio.sleep(max(0.0, begun + index / 200 - time.perf_counter()))
            stamp = str(time.perf_counter()).encode()
            await producer.send("latency", stamp.ljust(KILOBYTE))
        await producer.flush()
        await asyncio.sleep(0.2)
        task.cancel()
    cuts = statistics.quantiles(delays, n=100)
    return cuts[49], cuts[98]


async def _receive(consumer: AIOKafkaConsumer, delays: list[float]) -> None:
    async for record in consumer:
        assert record.value is not None
        delays.append((time.perf_counter() - float(record.value)) * 1000)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    """Prints one JSON line per fsync policy, and the bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    append = file_append(5_000, 16_384)
    print(json.dumps({"load": load, "file_append_16k_per_second": round(append)}))
    print(json.dumps({"kio_decode_16k_us": round(decode_microseconds(16_384), 1)}))
    for fsync in ("never", "interval", "always"):
        figures = asyncio.run(measure(fsync, options.records, options.seconds))
        print(json.dumps({"fsync": fsync, "load": os.getloadavg()[0], **figures}))


if __name__ == "__main__":
    main()
