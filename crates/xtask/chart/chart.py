"""The chart: lints, renders each set of example values, validates what comes out and compares facts in it."""

import copy
import pathlib
import re
import subprocess
import tempfile

import helm_python as helm
import kubernetes_validate
import yaml

# The oldest and the newest Kubernetes that the chart's `kubeVersion` allows and the validator knows.
VERSIONS = ["1.30", "1.37"]
SECRETS = "/run/secrets/roomcast/"
MEMORY = {"replicas": 1, "redis": {"enabled": False}, "autoscaling": {"enabled": False}}


def check(tally, root, roomcast, metrics):
    folder = root / "helm/roomcast"
    examples = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(folder.glob("examples/*.yaml"))}
    tally.check("there is an example for each way to run", set(examples) >= {"dev", "redis", "sentinel", "cluster"},
                sorted(examples))
    with helm.Chart.load(folder) as chart:
        for name, values in {"defaults": {}, **examples}.items():
            example(tally, f"{name}:", folder, chart, values, roomcast, metrics)
        refusals(tally, chart, examples)
        comments(tally, folder)
        affinity(tally, chart, examples["redis"])
    with tempfile.TemporaryDirectory() as place:
        package = helm.package(folder, destination=place)
        with helm.Chart.load(package) as packaged:
            tally.check("the packaged chart renders the same", render(packaged, examples["redis"])
                        == render_folder(folder, examples["redis"]))


def render(chart, values):
    """All manifests: `[(template, manifest)]`; NOTES.txt as text."""
    found = []
    for path, text in sorted(chart.render(values, name="rt", namespace="apps").items()):
        if path.endswith("NOTES.txt"):
            found.append((path, text))
        else:
            found.extend((path, manifest) for manifest in yaml.safe_load_all(text) if manifest)
    return found


def render_folder(folder, values):
    with helm.Chart.load(folder) as chart:
        return render(chart, values)


def example(tally, name, folder, chart, values, roomcast, metrics):
    report = helm.lint(folder, values, strict=True)
    worse = [it for it in report["messages"] if it["severity"] > 1]
    tally.nothing(f"{name} the linter is content", worse + report["errors"])
    rendered = render(chart, values)
    manifests = [it for path, it in rendered if not path.endswith("NOTES.txt")]
    by_kind = {}
    for manifest in manifests:
        by_kind.setdefault(manifest["kind"], []).append(manifest)
    names = [(it["kind"], it["metadata"]["name"]) for it in manifests]
    tally.check(f"{name} no two manifests have one name", len(names) == len(set(names)), names)
    for manifest in manifests:
        valid(tally, name, manifest)
    pods(tally, name, by_kind)
    links(tally, name, by_kind, metrics)
    merged = chart.merge_values(values)
    configuration(tally, name, by_kind, roomcast)
    notes = next(text for path, text in rendered if path.endswith("NOTES.txt"))
    tally.check(f"{name} the notes warn exactly when nobody can connect",
                ("NOBODY CAN CONNECT" in notes) == (not merged["issuers"]), notes)


def valid(tally, name, manifest):
    """Kubernetes' own schemas; a ServiceMonitor, which they do not have, is checked in `links`."""
    claim = f"{name} {manifest['kind']} {manifest['metadata']['name']} is valid"
    if manifest["apiVersion"] == "monitoring.coreos.com/v1":
        keys = {"apiVersion", "kind", "metadata", "spec"}
        spec = {"selector", "namespaceSelector", "endpoints"}
        ok = set(manifest) == keys and set(manifest["spec"]) == spec
        tally.check(claim, ok, manifest)
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
            tally.check(claim, True)
        except kubernetes_validate.ValidationError as cause:
            place = ".".join(str(it) for it in cause.path)
            tally.check(claim, False, f"{version}: {place}: {cause.message}")
        except kubernetes_validate.SchemaNotFoundError as cause:
            tally.check(claim, False, cause.message)


def pods(tally, name, by_kind):
    deployment, = by_kind["Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    container, = spec["containers"]
    who = spec["securityContext"]
    tally.check(f"{name} pods run as nobody in particular",
                who["runAsNonRoot"] is True and who["runAsUser"] == 65532 and who["runAsGroup"] == 65532, who)
    tally.check(f"{name} system calls are filtered", who["seccompProfile"] == {"type": "RuntimeDefault"}, who)
    may = container["securityContext"]
    tally.check(f"{name} the root file system is read-only", may["readOnlyRootFilesystem"] is True, may)
    tally.check(f"{name} there are no capabilities and no way to more rights",
                may["capabilities"] == {"drop": ["ALL"]} and may["allowPrivilegeEscalation"] is False, may)
    tally.check(f"{name} no token of Kubernetes is mounted", spec["automountServiceAccountToken"] is False)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    tally.check(f"{name} the ports are those of the product", ports == {"public": 8080, "internal": 9090}, ports)
    for probe, path in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]:
        asks = container[probe]["httpGet"]
        tally.check(f"{name} {probe} asks {path} of the internal port", asks == {"path": path, "port": "internal"},
                    asks)
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    text, = [it for data in by_kind["ConfigMap"] for key, it in data["data"].items() if key == "roomcast.toml"]
    deadline = int(re.search(r'(?m)^deadline = "(\d+)s"$', text).group(1))
    tally.check(f"{name} a node has its sleep, its drain and 10 s to stop",
                spec["terminationGracePeriodSeconds"] == sleep + deadline + 10, (sleep, deadline))
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    tally.check(f"{name} every volume is mounted and every mount has a volume",
                mounted == {volume["name"] for volume in spec["volumes"]}, mounted)
    tally.check(f"{name} the chart makes no Secret", "Secret" not in by_kind)


def links(tally, name, by_kind, metrics):
    """What names something else names something that is there."""
    deployment, = by_kind["Deployment"]
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"].items()

    def selects(selector):
        return bool(selector) and selector.items() <= labels

    tally.check(f"{name} the Deployment selects its pods", selects(deployment["spec"]["selector"]["matchLabels"]))
    account = template["spec"]["serviceAccountName"]
    made = [it["metadata"]["name"] for it in by_kind.get("ServiceAccount", [])]
    tally.check(f"{name} the pods' account exists", account in made or account == "default", account)
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    services = {}
    for service in by_kind["Service"]:
        services[service["metadata"]["name"]] = service
        tally.check(f"{name} Service {service['metadata']['name']} selects the pods",
                    selects(service["spec"]["selector"]))
        targets = {port["targetPort"] for port in service["spec"]["ports"]}
        tally.check(f"{name} Service {service['metadata']['name']} leads to ports that are there", targets <= ports)
        inside = "internal" not in targets or service["spec"]["type"] == "ClusterIP"
        tally.check(f"{name} Service {service['metadata']['name']} shows no internal port outside", inside)
    for ingress in by_kind.get("Ingress", []):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                named = [it["name"] for it in services.get(backend["name"], {"spec": {"ports": []}})["spec"]["ports"]]
                tally.check(f"{name} the Ingress leads to the public port", named == ["public"]
                            and backend["port"]["name"] == "public", backend)
    for monitor in by_kind.get("ServiceMonitor", []):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [it for it in services.values() if wanted <= it["metadata"]["labels"].items()]
        tally.check(f"{name} the ServiceMonitor finds one Service", len(found) == 1, len(found))
        named = {port["name"] for service in found for port in service["spec"]["ports"]}
        for endpoint in monitor["spec"]["endpoints"]:
            tally.check(f"{name} the ServiceMonitor scrapes a port that is there",
                        endpoint["port"] in named and endpoint["path"] == "/metrics", endpoint)
        tally.check(f"{name} the ServiceMonitor looks where the Service is",
                    monitor["spec"]["namespaceSelector"] == {"matchNames": ["apps"]})
    for budget in by_kind.get("PodDisruptionBudget", []):
        tally.check(f"{name} the budget for evictions selects the pods",
                    selects(budget["spec"]["selector"]["matchLabels"]))
    for scaler in by_kind.get("HorizontalPodAutoscaler", []):
        target = scaler["spec"]["scaleTargetRef"]
        tally.check(f"{name} the scaler scales the Deployment", target
                    == {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}, target)
        tally.check(f"{name} the scaler and the Deployment do not fight", "replicas" not in deployment["spec"])
        slow = scaler["spec"]["behavior"]["scaleDown"]
        tally.check(f"{name} scaling down is slow", slow["stabilizationWindowSeconds"] >= 300
                    and [it["value"] for it in slow["policies"]] == [1], slow)
        asked = {it["pods"]["metric"]["name"] for it in scaler["spec"]["metrics"] if it["type"] == "Pods"}
        tally.check(f"{name} the scaler's figures exist", asked <= set(metrics), asked)


def configuration(tally, name, by_kind, roomcast):
    """The node itself takes the file, with every secret that it names where the pod has it."""
    config, = by_kind["ConfigMap"]
    deployment, = by_kind["Deployment"]
    volumes = {it["name"]: it for it in deployment["spec"]["template"]["spec"]["volumes"]}
    sources = volumes.get("secrets", {}).get("projected", {}).get("sources", [])
    files = {item["path"] for source in sources for item in source["secret"]["items"]}
    text = config["data"]["roomcast.toml"]
    named = set(re.findall(f'"{SECRETS}([^"]+)"', text))
    tally.check(f"{name} the pod has exactly the secrets that roomcast.toml names", files == named, (files, named))
    tally.check(f"{name} roomcast.toml holds no secret itself", not re.search(r"(?m)^(secret|password|key) =", text))
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        for file in files:
            path = folder / "secrets" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(certificate() if file.endswith(".crt") else "0123456789abcdef" * 4)
        (folder / "roomcast.toml").write_text(text.replace(SECRETS, f"{folder}/secrets/"))
        told = subprocess.run([roomcast, "check-config", "--config", folder / "roomcast.toml"], capture_output=True,
                              text=True, timeout=30, check=False, env={})
        tally.check(f"{name} `roomcast check-config` takes roomcast.toml", told.returncode == 0,
                    told.stdout + told.stderr + text)


def certificate():
    """Any certificate, as PEM."""
    with tempfile.TemporaryDirectory() as place:
        out = pathlib.Path(place) / "ca.crt"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-subj", "/CN=test", "-days", "1", "-keyout", "/dev/null", "-out", out],
                       check=True, capture_output=True, timeout=30)
        return out.read_text()


def refusals(tally, chart, examples):
    """What would not work is refused, with a sentence that names the mend."""

    def refused(claim, values, *words):
        try:
            chart.render(values, name="rt", namespace="apps")
        except helm.HelmError as cause:
            told = str(cause)
            tally.check(claim, all(word in told for word in words), told)
        else:
            tally.check(claim, False, "it was rendered")

    def changed(name, *path, to):
        values = copy.deepcopy(examples[name])
        place = values
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = to
        return values

    alone = "set redis.enabled=true and redis.servers, or replicas=1"
    refused("two nodes without Redis are refused", {"replicas": 2}, "More than one node needs Redis", alone)
    refused("scaling without Redis is refused", {"autoscaling": {"enabled": True}}, alone)
    tally.check("one node without Redis is rendered", bool(render(chart, MEMORY)))
    refused("Redis without servers is refused", changed("redis", "redis", "servers", to=[]), "set redis.servers")
    refused("Sentinel without the master's name is refused", changed("sentinel", "redis", "sentinelService", to=""),
            "set redis.sentinelService")
    refused("a master's name without Sentinel is refused", changed("cluster", "redis", "sentinelService", to="x"),
            "of use with redis.topology=sentinel only")
    refused("a secret in no Secret is refused", changed("dev", "secretName", to=""), "set secretName")
    refused("an Ingress without hosts is refused", changed("redis", "ingress", "hosts", to=[]), "set ingress.hosts")
    refused("a drain that outlasts its deadline is refused", changed("redis", "drain", to={"deadlineSeconds": 10}),
            "drain.windowSeconds is above drain.deadlineSeconds")
    refused("fewer nodes at most than at least are refused", changed("sentinel", "autoscaling", "maxReplicas", to=1),
            "autoscaling.minReplicas is above")
    for path in [("replica",), ("redis", "server"), ("redis", "tls", "enable"), ("ingress", "host"),
                 ("service", "public", "ports"), ("relay", "modes"), ("image", "tags"), ("config", "limit"),
                 ("autoscaling", "scaleDown", "node"), ("probes", "readiness", "path"), ("serviceMonitor", "enable")]:
        refused(f"the typo {'.'.join(path)} is refused", changed("redis", *path, to="x"), path[-1])
    for path, to in [(("redis", "topology"), "single"), (("redis", "servers"), ["redis"]), (("replicas",), 0),
                     (("relay", "mode"), "fast"), (("ingress", "controller"), "caddy"),
                     (("config", "listen", "public"), "0.0.0.0:80"), (("config", "redis", "password"), "secret"),
                     (("config", "limits", "ping"), {"a": 1}), (("service", "public", "port"), 65536),
                     (("image", "pullPolicy"), "Sometimes"), (("drain", "deadlineSeconds"), 0),
                     (("config", "drain", "window"), "1s")]:
        refused(f"{'.'.join(path)} = {to!r} is refused", changed("redis", *path, to=to), path[0])


def comments(tally, folder):
    """Each value has a comment above, or follows one of its kind that has."""
    lines = (folder / "values.yaml").read_text().splitlines()
    bare = []
    for number, line in enumerate(lines):
        value = re.match(r"( *)[a-zA-Z]+: *\S", line)
        above = number - 1
        while value and above >= 0 and re.match(f"{value[1]}[a-zA-Z]", lines[above]):
            above -= 1
        if value and not lines[above].startswith(f"{value[1]}#"):
            bare.append(f"values.yaml:{number + 1}: {line.strip()}")
    tally.nothing("each value is commented", bare)
    schema = yaml.safe_load((folder / "values.schema.json").read_text())
    # What Kubernetes itself says of variables is checked where they are rendered.
    tally.check("the schema takes no value that it does not know",
                lenient(schema) == ["values.properties.extraEnv.items"], lenient(schema))
    known = set(schema["properties"]) - {"global"}
    there = set(yaml.safe_load("\n".join(lines)))
    tally.check("schema and values name the same", known == there, known ^ there)


def lenient(schema, place="values"):
    """Objects of the schema that name their members and take others as well."""
    found = []
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema and schema.get("additionalProperties") is not False:
            found.append(place)
        for key, below in schema.items():
            found.extend(lenient(below, f"{place}.{key}"))
    elif isinstance(schema, list):
        for below in schema:
            found.extend(lenient(below, place))
    return found


def affinity(tally, chart, values):
    """Each controller gets its cookie, and only its own annotations."""
    marks = {"haproxy": "haproxy.org/cookie-persistence", "nginx": "nginx.ingress.kubernetes.io/session-cookie-name",
             "traefik": "traefik.ingress.kubernetes.io/service.sticky.cookie.name"}
    for controller in [*marks, "none"]:
        changed = copy.deepcopy(values)
        changed["ingress"].update(controller=controller, cookieName="lane")
        seen = {}
        for _, manifest in render(chart, changed):
            if isinstance(manifest, dict):
                seen.update(manifest["metadata"].get("annotations", {}))
        wanted = {mark: "lane" for name, mark in marks.items() if name == controller}
        tally.check(f"the cookie of {controller} is set and no other one",
                    {mark: seen[mark] for mark in marks.values() if mark in seen} == wanted, seen)
        changed["ingress"]["annotations"] = {mark: "mine" for mark in wanted if controller != "traefik"}
        seen = {}
        for _, manifest in render(chart, changed):
            if isinstance(manifest, dict) and manifest["kind"] == "Ingress":
                seen.update(manifest["metadata"].get("annotations", {}))
        tally.check(f"one's own annotations win over those of {controller}",
                    changed["ingress"]["annotations"].items() <= seen.items(), seen)
