"""Services whose instances somebody else runs."""


def service(*targets, **more):
    path = {} if more.get("health", {}).get("check") == "command" else {"path": "/up"}
    return {
        "backend": {"targets": list(targets), **more.pop("backend", {})},
        "health": {**path, "interval": "50ms", "ready_timeout": "10s", **more.pop("health", {})},
        "rollover": {"graceful_timeout": "20s", **more.pop("rollover", {})},
        **more,
    }


def swap(relayd, target, *more, **options):
    return relayd.ctl_json("rollover", "web", "--target", target, *more, **options)


def instances(relayd, number=None):
    service = relayd.service()
    number = number or service["generation"]
    return next(g["instances"] for g in service["generations"] if g["number"] == number)
