"""Examples of answers, shown in the API description; a test validates each against its model."""

from typing import Any, Final

_RANGE: Final = {
    "start": "2026-11-23T07:00:00Z",
    "end": "2026-11-23T08:00:00Z",
    "step": "PT30M",
    "complete_through": "2026-11-23T07:59:56.4Z",
    "coverage_percent": 99.722,
    "coverage_window": "PT10S",
}
_EVENT: Final = {
    "id": "5f0c6c2f7d8a4be19a3b5c7d",
    "cursor": 4711,
    "type": "crane_move",
    "site": "CNNGB-DEMO",
    "class": "quay-crane",
    "device": "QC01",
    "time": "2026-11-23T07:58:31.4Z",
    "start": "2026-11-23T07:57:44.1Z",
    "data": {"kind": "discharge", "teu": 2.0, "cycle_s": 112.4, "load_t": 24.31},
}
_ACCOUNTS: Final = {
    "received": 36_021,
    "windowed": 36_004,
    "merged_late": 0,
    "duplicate": 15,
    "quarantined": 2,
    "shed": 0,
    "lost_before_journal": 0,
}
_SAMPLES: Final = {
    "received": 324_189,
    "windowed": 324_036,
    "merged_late": 0,
    "duplicate": 135,
    "quarantined": 18,
    "shed": 0,
    "lost_before_journal": 0,
}
_DEVICE: Final = {
    "id": "QC01",
    "uid": "CNNGB-DEMO/quay-crane/QC01",
    "site": "CNNGB-DEMO",
    "class": "quay-crane",
    "online": True,
    "state": "live",
    "first_seen": "2026-11-23T06:12:04.118Z",
    "last_seen": "2026-11-23T07:59:59.602Z",
    "last_event_time": "2026-11-23T07:59:59.6Z",
    "frames": 36_021,
    "latest": {
        "load_t": {"value": 24.31, "unit": "t", "time": "2026-11-23T07:59:59.6Z"},
        "trolley_position_m": {"value": 31.204, "unit": "m", "time": "2026-11-23T07:59:59.6Z"},
    },
    "info": {"vendor": "simulated", "outreach_m": 65.0},
    "clock_offset_s": 0.012,
    "rate_hz": 5.94,
    "lost_before_journal": 0,
    "quarantined": {"out_of_range": 2},
    "health": "/v1/devices/CNNGB-DEMO~quay-crane~QC01/health",
}
_PERCENTILES: Final = {"p50": 9.86, "p95": 33.71, "p99": 38.74}
_POINT: Final = {
    "time": "2026-11-23T07:00:00Z",
    "count": 1_800,
    "mean": 11.402,
    "min": 0.0,
    "max": 40.1,
    "first": 0.0,
    "last": 24.31,
    "sum": 20_523.6,
    "first_time": "2026-11-23T07:00:00.2Z",
    "last_time": "2026-11-23T07:29:59.2Z",
    **_PERCENTILES,
}
_CHECK: Final = {"ok": True, "detail": "ok"}
_MOVES_PER_HOUR: Final = {
    "id": "moves_per_hour",
    "version": "1",
    "name": "Moves per elapsed hour",
    "numerator": "container moves completed by quay cranes",
    "denominator": "complete hours of the range",
    "description": "Container moves per elapsed hour, over the complete part of the range.",
}

EXAMPLES: Final[dict[str, Any]] = {
    "devices": {"items": [_DEVICE], "next": None, "complete_through": "2026-11-23T07:59:57.6Z"},
    "device": _DEVICE,
    "telemetry": {
        "device": "QC01",
        "uid": "CNNGB-DEMO/quay-crane/QC01",
        "metric": "load_t",
        "unit": "t",
        "resolution": 0.001,
        "kind": "gauge",
        "definition": {
            "id": "telemetry",
            "version": "1",
            "name": "Aggregated telemetry",
            "numerator": "samples accepted from the device",
            "denominator": "buckets of the step",
            "description": "Exact count, sum, minimum and maximum of the samples in each bucket.",
        },
        **_RANGE,
        "observations": 1_800,
        "corrections": 0,
        "summary": {
            "count": 1_800,
            "mean": 11.402,
            "min": 0.0,
            "max": 40.1,
            "first": {"time": "2026-11-23T07:00:00.2Z", "value": 0.0},
            "last": {"time": "2026-11-23T07:29:59.2Z", "value": 24.31},
            "sum": 20_523.6,
            **_PERCENTILES,
        },
        "points": [_POINT],
    },
    "throughput": {
        "definition": _MOVES_PER_HOUR,
        "group_by": "crane",
        **_RANGE,
        "observations": 29,
        "corrections": 0,
        "groups": [
            {
                "group": "QC01",
                "site": "CNNGB-DEMO",
                "uid": "CNNGB-DEMO/quay-crane/QC01",
                "moves": 29,
                "teu": 46.0,
                "moves_per_hour": 29.0,
                "coverage_percent": 99.722,
                "points": [
                    {"time": "2026-11-23T07:00:00Z", "moves": 15, "teu": 24.0, "moves_per_hour": 30.0},
                    {"time": "2026-11-23T07:30:00Z", "moves": 14, "teu": 22.0, "moves_per_hour": 28.0},
                ],
            },
        ],
    },
    "events": {"items": [_EVENT], "next": None, "complete_through": "2026-11-23T07:59:57.6Z"},
    "quarantine": {
        "items": [
            {
                "id": "193331",
                "reason": "wrong_type",
                "pointer": "/m/load_t",
                "detail": "expected a number or a boolean, got text 'abc'",
                "topic": "port/CNNGB-DEMO/quay-crane/QC01/telemetry",
                "uid": "CNNGB-DEMO/quay-crane/QC01",
                "received": "2026-11-23T07:41:09.203Z",
                "payload": '{"v":1,"m":{"load_t":"abc"}}',
                "payload_encoding": "utf-8",
                "payload_bytes": 28,
                "payload_sha256": "3d6cbd2a9f2bb3f37eb4ee4fdd1c1ad4da4b2a68e5c5b6bcf9f2c8a3d0ee1f7b",
            },
        ],
        "next": None,
        "complete_through": "2026-11-23T07:59:57.6Z",
    },
    "ledger": {
        "balanced": True,
        "journal_frames": 36_021,
        "total": {"frames": _ACCOUNTS, "samples": _SAMPLES, "quarantined_by_reason": {"wrong_type": 2}, "flags": {}},
        "items": [
            {
                "uid": "CNNGB-DEMO/quay-crane/QC01",
                "frames": _ACCOUNTS,
                "samples": _SAMPLES,
                "quarantined_by_reason": {"wrong_type": 2},
                "flags": {},
            },
        ],
        "next": None,
        "complete_through": "2026-11-23T07:59:57.6Z",
    },
    "registry": {
        "items": [
            {
                "key": "CNNGB-DEMO/A1",
                "site": "CNNGB-DEMO",
                "entry": {
                    "id": "A1",
                    "site": "CNNGB-DEMO",
                    "name": "Block A1",
                    "type": "block",
                    "geometry": {
                        "type": "Polygon",
                        "coordinates": [[[121.8, 29.9], [121.81, 29.9], [121.81, 29.91], [121.8, 29.9]]],
                    },
                },
            },
        ],
        "next": None,
        "revision": 12,
    },
    "health": {
        "uid": "CNNGB-DEMO/quay-crane/QC01",
        "verdict": "silent for 412 s without a last will: the network is gone, or the program hangs",
        "cause": "silent",
        "live": False,
        "registered": True,
        "enabled": True,
        "admitted": True,
        "credential": "password",
        "heard": True,
        "online": True,
        "first_seen": "2026-11-23T06:12:04.118Z",
        "last_seen": "2026-11-23T07:53:07.602Z",
        "silent_s": 412.0,
        "frames": 36_021,
        "accepted": 36_003,
        "rate_hz": 5.94,
        "skew_s": 0.002,
        "lost_before_journal": 0,
        "duplicate": 15,
        "quarantined": {"wrong_type": 2},
        "refused": {"wrong_type": {"messages": 2, "values": 0}},
        "refusals": [
            {
                "reason": "wrong_type",
                "pointer": "/m/load_t",
                "detail": "expected a number or a boolean, got text 'abc'",
                "received": "2026-11-23T07:41:09.203Z",
            },
        ],
        "publish": "mosquitto_pub -h 127.0.0.1 -p 1883 -q 1 -t port/CNNGB-DEMO/quay-crane/QC01/telemetry "
        """-m '{"v":1,"m":{"hoist_height_m":1}}'""",
    },
    "names": {
        "uid": "CNNGB-DEMO/quay-crane/QC01",
        "items": [
            {
                "name": "hoist mm",
                "value": "14500",
                "refused": 112,
                "first": "2026-11-23T07:40:12.4Z",
                "last": "2026-11-23T07:59:59.6Z",
                "adopted": None,
                "guesses": [{"metric": "hoist_height_m", "scale": 0.001}],
                "command": "quayflow device adopt CNNGB-DEMO/quay-crane/QC01 'hoist mm' METRIC",
            },
            {
                "name": "Load_kg",
                "value": "",
                "refused": 0,
                "first": None,
                "last": None,
                "adopted": {"metric": "load_t", "scale": 0.001, "offset": 0.0},
                "guesses": [],
                "command": "quayflow device adopt CNNGB-DEMO/quay-crane/QC01 Load_kg METRIC",
            },
        ],
        "next": None,
    },
    "adopted_name": {
        "device": "CNNGB-DEMO/quay-crane/QC01",
        "name": "hoist mm",
        "metric": "hoist_height_m",
        "scale": 0.001,
        "offset": 0.0,
    },
    "command": {
        "uid": "CNNGB-DEMO/quay-crane/QC01",
        "id": "c-4711",
        "name": "set_rate",
        "args": {"hz": 5},
        "sent": "2026-11-23T08:00:00.118Z",
        "expires": "2026-11-23T08:00:10.118Z",
        "outcome": "done",
        "answered": "2026-11-23T08:00:00.161Z",
        "detail": "",
        "data": {"was_hz": 2.0},
    },
    "vocabulary": {
        "items": [
            {
                "name": "load_t",
                "unit": "t",
                "resolution": 0.001,
                "minimum": -20,
                "maximum": 500,
                "kind": "gauge",
                "classes": ["quay-crane", "yard-crane"],
                "tic": "che.hoist.weight.net",
                "derived": False,
                "percentiles": True,
            },
        ],
        "next": None,
        "classes": ["quay-crane", "yard-crane", "rfid-gate", "vehicle", "park-sensor"],
        "tiers": ["PT10S", "PT1M", "PT15M", "PT1H"],
    },
    "alive": {"status": "ok"},
    "ready": {
        "status": "ready",
        "checks": {"broker": _CHECK, "journal": _CHECK, "store": _CHECK, "lag": _CHECK, "ledger": _CHECK},
    },
    "version": {"name": "quayflow", "version": "0.1.0", "api": "v1"},
}

STREAM: Final = """retry: 2000
event: hello
data: {"time":"2026-11-23T08:00:00Z","cursor":4710,"complete_through":null,"devices":[],"workers":[],\
"broker":{"heard":true,"silent_s":0.4}}

event: live
data: {"site":"CNNGB-DEMO","class":"quay-crane","time":"2026-11-23T08:00:00.5Z","values":{"QC01":{"load_t":24.31}}}

id: 4711
event: port-event
data: {"id":"5f0c6c2f7d8a4be19a3b5c7d","cursor":4711,"type":"crane_move","site":"CNNGB-DEMO","class":"quay-crane",\
"device":"QC01","time":"2026-11-23T07:58:31.4Z","start":"2026-11-23T07:57:44.1Z","data":{"kind":"discharge","teu":2.0}}

: heartbeat

"""
