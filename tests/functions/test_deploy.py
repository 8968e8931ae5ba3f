"""The manifests of deploy/kubernetes use only options, variables, paths and settings that the program has."""

import json
import os
import re
import subprocess
import tomllib
import unittest
import urllib.request

import yaml

from kit import service
from kit.application import Application
from kit.fakes import hec
from kit.paths import PROGRAM, ROOT
from kit.process import Process, free_port, temporary_folder
from kit.shipping import put
from kit.waiting import wait_for

MANIFESTS = ROOT / "deploy/kubernetes"
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def documents(name):
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


def find(name, kind):
    (found,) = (document for document in documents(name) if document["kind"] == kind)
    return found


def help_of(command):
    return subprocess.run([PROGRAM, command, "--help"], capture_output=True, text=True, check=True).stdout


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status


class Deployment:
    """A Deployment of one container."""

    def __init__(self, name):
        self.whole = find(name, "Deployment")
        self.pod = self.whole["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.command, *self.options = self.container["args"]
        self.variables = {entry["name"]: entry for entry in self.container["env"]}

    def ports(self):
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    def probes(self):
        return [probe["httpGet"] for name, probe in self.container.items() if name.endswith("Probe")]


class Manifests(unittest.TestCase):
    def test_manifests_have_required_members(self):
        names = sorted(path.name for path in MANIFESTS.iterdir())
        self.assertEqual(names, ["consume.yaml", "function.yaml", "serve.yaml"])
        for name in names:
            for document in documents(name):
                self.assertTrue({"apiVersion", "kind", "metadata"} <= set(document), document)
                if document["kind"] != "Namespace":
                    self.assertEqual(document["metadata"]["namespace"], "logship", document["metadata"])

    def test_options_and_variables_exist(self):
        for name in "serve.yaml", "consume.yaml":
            with self.subTest(name):
                deployment = Deployment(name)
                known = help_of(deployment.command)
                for option in (option.partition("=")[0] for option in deployment.options if option.startswith("--")):
                    self.assertRegex(known, rf"(?m)^ +(-\w, )?{option}\b")
                for variable in deployment.variables:
                    self.assertRegex(known, rf"\[env: {variable}\b")

    def test_volumes_and_ports_match(self):
        for name in "serve.yaml", "consume.yaml":
            with self.subTest(name):
                deployment = Deployment(name)
                labels = deployment.whole["spec"]["template"]["metadata"]["labels"]
                self.assertEqual(deployment.whole["spec"]["selector"]["matchLabels"], labels)
                volumes = {volume["name"] for volume in deployment.pod["volumes"]}
                mounts = {mount["name"]: mount["mountPath"] for mount in deployment.container["volumeMounts"]}
                self.assertEqual(set(mounts), volumes)
                self.assertTrue(deployment.pod["securityContext"]["runAsNonRoot"])
                self.assertEqual(deployment.container["securityContext"], RESTRICTED)
                # All writes go to a volume, as all else is read-only.
                paths = [entry["value"] for entry in deployment.variables.values() if "/" in entry.get("value", "")]
                for path in (path for path in paths if path.startswith("/")):
                    self.assertTrue(any(path.startswith(f"{mount}/") for mount in mounts.values()), path)
                for probe in deployment.probes():
                    self.assertIn(probe["port"], deployment.ports())
                for name, entry in deployment.variables.items():
                    self.assertEqual("valueFrom" in entry, bool(re.search("AK_|TOKEN", name)), name)

    def test_services_select_pods(self):
        served, reached = Deployment("serve.yaml"), find("serve.yaml", "Service")
        self.assertEqual(reached["spec"]["selector"], served.whole["spec"]["template"]["metadata"]["labels"])
        (port,) = reached["spec"]["ports"]
        self.assertEqual(served.ports()[port["targetPort"]], port["port"])
        self.assertEqual(served.variables["LOGSHIP_LISTEN"]["value"], f"0.0.0.0:{port['port']}")
        # Clients ask for PROJECT.HOST: the Service is named as the project, and the namespace as the host.
        variables = Deployment("consume.yaml").variables
        self.assertEqual(reached["metadata"]["name"], variables["SLS_PROJECT"]["value"])
        host = f"http://{reached['metadata']['namespace']}:{port['port']}"
        self.assertEqual(variables["SLS_ENDPOINT"]["value"], host)
        settings = tomllib.loads(find("serve.yaml", "Secret")["stringData"]["logship.toml"])
        function = find("function.yaml", "SpinApp")["metadata"]
        fleet = f"http://{function['name']}.{function['namespace']}.svc"
        self.assertEqual(settings["destinations"]["fleet"]["url"], fleet)


class Running(unittest.TestCase):
    """The program runs as it is deployed, on this machine."""

    def environment(self, deployment, place, **others):
        """The variables of a deployment, with its volumes below a folder."""
        values = {name: entry.get("value", "") for name, entry in deployment.variables.items()}
        below = {name: str(place) + value if value.startswith("/") else value for name, value in values.items()}
        return {**os.environ, **below, **others}

    def test_deploys_service(self):
        deployment, place = Deployment("serve.yaml"), temporary_folder(self)
        files = find("serve.yaml", "Secret")["stringData"]
        (mount,) = (mount for mount in deployment.container["volumeMounts"] if mount["name"] == "settings")
        for mounted in deployment.container["volumeMounts"]:
            (place / mounted["mountPath"][1:]).mkdir(parents=True)
        for name, text in files.items():
            (place / mount["mountPath"][1:] / name).write_text(text)
        options = [str(place) + option if option.startswith("/") else option for option in deployment.options]
        environment = self.environment(deployment, place, LOGSHIP_LISTEN="127.0.0.1:0")
        log = place / "log"
        Process(self, log).spawn([PROGRAM, deployment.command, *options], environment)

        def url():
            lines = map(json.loads, log.read_text().split("\n")[:-1])
            return next((line["url"] for line in lines if line.get("message") == "serving"), None)

        served = wait_for(url, message=log.read_text)
        for probe in deployment.probes():
            self.assertEqual(fetch(served + probe["path"]), 200)
        self.assertEqual(fetch(f"{served}/metrics"), 200)

    def test_deploys_consumer(self):
        deployment, place = Deployment("consume.yaml"), temporary_folder(self)
        served = service.Service(self)
        logstore = served.logstore("access")
        put(logstore, 100)
        collector = hec.Collector(acks=True)
        self.addCleanup(collector.close)
        port = free_port()
        environment = self.environment(
            deployment,
            place,
            SLS_ENDPOINT=served.endpoint(),
            SLS_PROJECT=service.PROJECT,
            SLS_AK_ID=served.admin.id,
            SLS_AK_KEY=served.admin.secret,
            SPLUNK_HEC_TOKEN=hec.TOKEN,
            LOGSHIP_METRICS=f"127.0.0.1:{port}",
        )
        options = [f"--to={collector.endpoint}" if option.startswith("--to=") else option for option in deployment.options]
        log = place / "log"
        Process(self, log).spawn([PROGRAM, deployment.command, *options], environment)
        wait_for(lambda: len(collector.indexed()) == 100, message=log.read_text)
        for probe in deployment.probes():
            self.assertEqual(fetch(f"http://127.0.0.1:{port}{probe['path']}"), 200)

    def test_deploys_function(self):
        whole, application = find("function.yaml", "SpinApp")["spec"], tomllib.loads((ROOT / "spin.toml").read_text())
        self.assertLessEqual(set(whole["components"]), set(application["component"]))
        values = find("function.yaml", "ConfigMap")["data"]
        given = {}
        for variable in whole["variables"]:
            self.assertIn(variable["name"], application["variables"])
            is_secret = application["variables"][variable["name"]].get("secret", False)
            reference = variable.get("valueFrom", {})
            self.assertEqual("secretKeyRef" in reference, is_secret or variable["name"] == "s3_access_key_id", variable)
            if "configMapKeyRef" in reference:
                given[variable["name"]] = values[reference["configMapKeyRef"]["key"]]
            else:
                given[variable["name"]] = variable.get("value", "given")
        options = [option for name, value in given.items() for option in ("--variable", f"{name}={value}")]
        running = Application(self, (ROOT / "spin.toml").read_text().replace('"target/', f'"{ROOT}/target/'), *options)
        for check in whole["checks"].values():
            self.assertEqual(fetch(running.url + check["httpGet"]["path"]), 200)
        for name, rule in json.loads(values["rules"]).items():
            said = running.describe(name, authorization="Bearer given")
            self.assertEqual((said.status, said.fact("delivers")), (200, rule["deliver"]["to"]), said.body)
            scheme, _, host = rule["deliver"]["endpoint"].partition("://")
            self.assertEqual(given["deliver_to"], f"{scheme}://{rule['deliver']['bucket']}.{host}")
        self.assertEqual(running.describe("lake").status, 401)

    def test_autoscaler_scales_function(self):
        function, scaled = find("function.yaml", "SpinApp"), find("function.yaml", "ScaledObject")
        self.assertEqual(scaled["spec"]["scaleTargetRef"]["name"], function["metadata"]["name"])
        self.assertTrue(function["spec"]["enableAutoscaling"])
        self.assertNotIn("replicas", function["spec"])
        # Of how much it shall use a part.
        self.assertIn("cpu", function["spec"]["resources"]["requests"])
        self.assertLess(scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"])

    def test_image_matches_manifests(self):
        text = (ROOT / "deploy/Containerfile").read_text()
        (copied,) = re.findall(r"^COPY (\S+) (\S+)$", text, re.MULTILINE)
        self.assertEqual(copied[0], "target/release/logship")
        self.assertIn(f'ENTRYPOINT ["{copied[1]}"]', text)
        user = re.search(r"^USER (\d+):(\d+)$", text, re.MULTILINE)
        for name in "serve.yaml", "consume.yaml":
            context = Deployment(name).pod["securityContext"]
            self.assertEqual((context["runAsUser"], context["runAsGroup"]), (int(user[1]), int(user[2])))
