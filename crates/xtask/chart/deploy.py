"""deploy/: Compose's file, Prometheus' configuration, Grafana's dashboards, the Dockerfile; against the product."""

import json
import re
import subprocess
import tempfile

import yaml

# Names that promql has itself, or that a query makes.
WORDS = {"sum", "rate", "increase", "histogram_quantile", "by", "le", "max", "min", "avg", "count", "topk", "clamp_min",
         "time", "without", "and", "on", "instance", "lane", "code", "limit", "job", "endpoint", "class", "cause", "state", "reason", "step"}


def known_metrics(root):
    """Names in docs/METRICS.md with their types; a histogram's series too."""
    rows = re.findall(r"(?m)^\| `([a-z_]+)` \| (\w+) \|", (root / "docs/METRICS.md").read_text())
    known = dict(rows)
    for name, kind in rows:
        if kind == "histogram":
            known.update({f"{name}_{end}": "counter" for end in ("bucket", "sum", "count")})
    return known


def known_labels(root):
    """Labels of each metric in docs/METRICS.md."""
    rows = re.findall(r"(?m)^\| `([a-z_]+)` \| \w+ \| ([a-z, ]*) \|", (root / "docs/METRICS.md").read_text())
    return {name: set(labels.replace(",", " ").split()) for name, labels in rows}


def check(tally, root, roomcast, promtool, metrics):
    tally.check("docs/METRICS.md was read", len(metrics) > 40, len(metrics))
    folder = root / "deploy"
    prometheus(tally, folder, promtool)
    alerts(tally, root, promtool, metrics, known_labels(root))
    dashboards(tally, folder, promtool, metrics, known_labels(root))
    compose(tally, folder, roomcast)
    stopping(tally, folder)
    dockerfile(tally, root)


def prometheus(tally, folder, promtool):
    told = subprocess.run([promtool, "check", "config", folder / "prometheus.yml"], capture_output=True, text=True,
                          timeout=30, check=False)
    tally.check("promtool takes prometheus.yml", told.returncode == 0, told.stdout + told.stderr)


def alerts(tally, root, promtool, metrics, labels):
    """Each alert asks for what there is, says what to do, and fires when it should."""
    made = yaml.safe_load((root / "deploy/alerts.yml").read_text())
    tests = yaml.safe_load((root / "crates/xtask/chart/alerts_test.yml").read_text())
    tested = [it["alertname"] for test in tests["tests"] for it in test["alert_rule_test"] if it["exp_alerts"]]
    rules = [rule for group in made["groups"] for rule in group["rules"]]
    for rule in rules:
        name = rule["alert"]
        query(tally, f"{name}:", rule["expr"], metrics, labels)
        tally.check(f"{name} says what happened and what to do", set(rule["annotations"]) == {"summary", "description"})
        # The words are for people; what is tested is when it fires.
        del rule["annotations"]
    tally.check("each alert is tested", sorted(set(tested)) == sorted(rule["alert"] for rule in rules), tested)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in [("alerts.yml", made), ("test.yml", tests)]:
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                yaml.safe_dump(content, file)
        told = subprocess.run([promtool, "test", "rules", "test.yml"], cwd=folder, capture_output=True, text=True,
                              timeout=60, check=False)
        tally.check("each alert fires when it should and not before", told.returncode == 0, told.stdout + told.stderr)


def dashboards(tally, folder, promtool, metrics, labels):
    files = sorted(folder.glob("grafana/dashboards/*.json"))
    tally.check("there is a dashboard", bool(files))
    for file in files:
        board = json.loads(file.read_text())
        panels = [it for it in board["panels"] if it["type"] != "row"]
        ids = [panel["id"] for panel in board["panels"]]
        tally.check(f"{file.name}: each panel has its own id", len(ids) == len(set(ids)), ids)
        tally.nothing(f"{file.name}: each panel says what it shows",
                      [it["title"] for it in panels if not it.get("description") or not it.get("targets")])
        tally.nothing(f"{file.name}: no panel lies on another", overlaps(board["panels"]))
        exprs = [target["expr"] for panel in panels for target in panel["targets"]]
        parsed(tally, f"{file.name}: Prometheus can read every query", exprs, promtool)
        for panel in panels:
            for target in panel["targets"]:
                query(tally, f"{file.name}: {panel['title']}:", target["expr"], metrics, labels)


def query(tally, claim, expr, metrics, labels):
    """Only metrics and labels that exist; counters only by their rate."""
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", expr)
    plain = re.sub(r"\b(by|without)\s*\([^)]*\)", "", plain)
    names = set(re.findall(r"\b[a-z_][a-z0-9_]*\b", plain)) - WORDS
    tally.nothing(f"{claim} its metrics exist", sorted(names - set(metrics)))
    grouped = {label for group in re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", expr) for label in group.split(", ")}
    for name in names & set(metrics):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        given = labels.get(name, labels.get(base, set())) | {"instance", "job"} | ({"le"} if name != base else set())
        tally.nothing(f"{claim} {name} has the labels it is grouped by", sorted(grouped - given))
    tally.check(f"{claim} it asks for a metric", bool(names), expr)
    for name in names & set(metrics):
        rated = bool(re.search(rf"(rate|increase)\({name}\b", expr))
        tally.check(f"{claim} {name} is asked for as a {metrics[name]}", rated == (metrics[name] == "counter"), expr)


def parsed(tally, claim, exprs, promtool):
    """Prometheus' own parser takes the queries, with Grafana's variables filled in."""
    values = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*"}
    rules = []
    for number, expr in enumerate(exprs):
        for name, value in values.items():
            expr = expr.replace(name, value)
        rules.append({"record": f"query:{number}", "expr": expr})
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}, file)
        file.flush()
        told = subprocess.run([promtool, "check", "rules", file.name], capture_output=True, text=True, timeout=30,
                              check=False)
        tally.check(claim, told.returncode == 0, told.stdout + told.stderr)


def overlaps(panels):
    found = []
    for index, one in enumerate(panels):
        for other in panels[index + 1:]:
            a, b = one["gridPos"], other["gridPos"]
            if a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] \
                    and b["y"] < a["y"] + a["h"]:
                found.append(f"{one['title']} and {other['title']}")
    return found


def compose(tally, folder, roomcast):
    """What the file names is there: services, volumes, files; and the node takes its configuration."""
    made = yaml.safe_load((folder / "compose.yaml").read_text())
    services = made["services"]
    targets = set()
    for job in yaml.safe_load((folder / "prometheus.yml").read_text())["scrape_configs"]:
        targets |= {target for group in job["static_configs"] for target in group["targets"]}
    nodes = sorted(name for name in services if name.startswith("node"))
    tally.check("compose.yaml starts three nodes", nodes == ["node1", "node2", "node3"], nodes)
    tally.check("Prometheus scrapes the internal port of each node", targets == {f"{it}:9090" for it in nodes}, targets)
    balancer = folder / "haproxy.cfg"
    if balancer.exists():
        servers = re.findall(r"(?m)^\s*server\s+(\S+)", balancer.read_text())
        tally.check("the balancer knows the nodes by these names", sorted(servers) == nodes, servers)
    for name, service in services.items():
        tally.nothing(f"{name} waits for services that are there", set(service.get("depends_on", {})) - set(services))
        tally.check(f"{name} has an image with a version, or is built here", "build" in service
                    or re.search(r":v?\d", service["image"]), service.get("image"))
        missing = []
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./") and not (folder / source).exists():
                missing.append(source)
            elif not source.startswith("./") and source not in made["volumes"]:
                missing.append(source)
        tally.nothing(f"{name} mounts what is there", missing)
        open_to_all = [port for port in service.get("ports", []) if not str(port).startswith("127.0.0.1:")]
        tally.nothing(f"{name} is reachable from this machine alone", open_to_all)
    for name in nodes:
        service = services[name]
        tally.check(f"{name} cannot write and has no rights", service["read_only"] and service["cap_drop"] == ["ALL"])
        env = {key: "x" * 40 if "${" in value else value for key, value in service["environment"].items()}
        told = subprocess.run([roomcast, "check-config", "--config", folder / "roomcast.toml"], env=env,
                              capture_output=True, text=True, timeout=30, check=False)
        tally.check(f"{name} takes its configuration", told.returncode == 0, told.stdout + told.stderr)


def stopping(tally, folder):
    """Whatever stops a node gives it its drain and 15 s more."""
    example = (folder / "../crates/gateway/assets/roomcast.toml").read_text()
    needed = int(re.search(r'(?m)^deadline = "(\d+)s"$', example).group(1)) + 15
    own = re.search(r"(?m)^deadline", (folder / "roomcast.toml").read_text())
    tally.check("deploy/roomcast.toml leaves the drain's deadline as it is", own is None, own)
    grace = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["node1"]["stop_grace_period"]
    tally.check("compose.yaml gives nodes the time to drain", grace == f"{needed}s", grace)
    unit = (folder / "roomcast.service").read_text()
    limits = re.findall(r"(?m)^TimeoutStopSec=(.*)$", unit)
    tally.check("roomcast.service gives nodes the time to drain", limits == [f"{needed}s"], limits)


def dockerfile(tally, root):
    """By eye, as far as an eye can be written down: there is no engine to build it here."""
    text = (root / "deploy/Dockerfile").read_text()
    stages = re.findall(r"(?m)^FROM (\S+)", text)
    tally.check("the image is built in one stage and run in another", len(stages) == 2, stages)
    tally.check("the last stage is empty but for the binary", stages[-1] == "scratch", stages)
    users = re.findall(r"(?m)^USER (.*)$", text)
    tally.check("the image runs as 65532", users == ["65532:65532"], users)
    tally.check("cargo builds what the lock file says", "--locked" in text)
    release = re.search(r'rust-version = "([\d.]+)"', (root / "Cargo.toml").read_text())[1]
    tally.check("the compiler is no older than the manifest asks for",
                [int(it) for it in re.search(r"rust:([\d.]+)", stages[0])[1].split(".")]
                >= [int(it) for it in release.split(".")], (stages, release))
    ignored = (root / "deploy/Dockerfile.dockerignore").read_text().split()
    tally.check("build output is not sent to the engine", "target*" in ignored, ignored)
