"""Stages in other languages: the examples and the templates build, keep the contract, and do what they say; and what
imports WASI gets an empty one, if that is allowed."""

import json
import os
import shutil
import subprocess
import sys
import unittest
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from kit.marking import SETTINGS, Case
from kit.paths import PROGRAM, ROOT
from kit.process import temporary_folder
from kit.waiting import wait_for

EXAMPLES = ROOT / "examples"
REDACT, TENANT, NOSY = EXAMPLES / "redact-py", EXAMPLES / "tenant-path-js", ROOT / "tests/nosy-py"
# The stages of the templates in Rust, which `xtask build --examples` makes and builds.
RUST = PROGRAM.parents[1] / "components-templates"
# The builds, which are kept for the next run, with the packages of npm.
BUILT = PROGRAM.parents[1] / "languages"
# componentize-py, and Node and Go, each of a wheel.
TOOLS = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LOGSHIP": str(PROGRAM),
    "GOCACHE": str(BUILT / "go-cache"),
    # Go downloads nothing.
    "GOPROXY": "off",
    "GOTOOLCHAIN": "local",
}
KINDS = ("transformer", "encoder", "compressor", "renderer", "formatter")
LOG = {
    "__time__": 1_760_000_000,
    "__source__": "10.0.0.1",
    "user": "ann@example.com",
    "card": "4111 1111 1111 1111",
    "password": "secret",
    "status": "200",
}


def run(*command, folder, expected=0, **environment):
    """Runs a command of a project, and returns what it printed."""
    environment = os.environ | TOOLS | environment
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    text = done.stdout + done.stderr
    assert done.returncode == expected, f"{command} ended with {done.returncode}:\n{text}"
    return text


def logship(*arguments, folder=BUILT, expected=0):
    return run(PROGRAM, *arguments, folder=folder, expected=expected)


def python(project):
    """Tests a project in Python, and builds it."""
    run(sys.executable, "-m", "unittest", folder=project)
    component = BUILT / f"{project.name}.wasm"
    run("./build.sh", component, folder=project)
    return component


def with_wasi(project):
    """Builds a project in Python as componentize-py does unless it is told otherwise."""
    component = BUILT / f"{project.name}-wasi.wasm"
    wit = ("--wit-path", ROOT / "wit", "--world", "transformer")
    run("componentize-py", *wit, "componentize", "app", "--output", component, folder=project)
    return component


def js(project):
    """Tests a project in JavaScript, and builds it."""
    component = BUILT / f"{project.name}.wasm"
    run("node", "--test", folder=project)
    run("node", "build.mjs", component, folder=project)
    return component


def go(project):
    """Tests a project in Go, and builds it."""
    formatter = Path(run("go", "env", "GOROOT", folder=project).strip()) / "bin/gofmt"
    yours = ("stage", "main.go", *project.glob("bindings/export_*/[rs]*.go"))
    assert run(formatter, "-l", *yours, folder=project) == "", f"{project.name} is not formatted"
    run("go", "vet", "./stage", folder=project, **workspace(project))
    run("go", "test", "./stage", folder=project, **workspace(project))
    return built_in_go(project)


def built_in_go(project):
    component = BUILT / f"{project.name}.wasm"
    run("./build.sh", component, folder=project, **workspace(project))
    return component


def workspace(project):
    """The Go workspace with the package of the bindings, which comes with wit-bindgen. Users get it with `go mod tidy`."""
    work = BUILT / f"{project.name}.work"
    work.write_text(f"go 1.27\nuse {project}\nreplace go.bytecodealliance.org/pkg => {bindings()}\n")
    return {"GOWORK": str(work)}


@cache
def bindings():
    """The folder of the package that bindings in Go need."""
    metadata = json.loads(run("cargo", "metadata", "--format-version", "1", "--locked", folder=ROOT))
    (manifest,) = (package["manifest_path"] for package in metadata["packages"] if package["name"] == "wit-bindgen-go")
    return Path(manifest).parent / "src/pkg"


def panicking():
    """An encoder in Go that has no answer."""
    project = make("encoder", "go", "new-panicking-go")
    stage = project / "stage/stage.go"
    text = stage.read_text()
    broken = text.replace("lines := make([]byte, 0,", 'panic("no answer")\n\tlines := make([]byte, 0,')
    assert broken != text
    stage.write_text(broken)
    return built_in_go(project)


def make(kind, language, name=None):
    """A new project."""
    name = name or f"new-{kind}-{language}"
    shutil.rmtree(BUILT / name, ignore_errors=True)
    logship("stage", "new", name, "--kind", kind, "--lang", language)
    return BUILT / name


def modules():
    """Installs the npm packages of the examples in JavaScript once: `build.mjs` looks in the folders above it."""
    lock = (TENANT / "package-lock.json").read_bytes()
    stamp = BUILT / "node_modules.lock"
    if stamp.exists() and stamp.read_bytes() == lock:
        return
    for name in ("package.json", "package-lock.json"):
        shutil.copy(TENANT / name, BUILT)
    run("npm", "ci", "--no-audit", "--no-fund", folder=BUILT)
    stamp.write_bytes(lock)


def everything_in_js():
    modules()
    # Beside what npm brought, as build.mjs has it in a user's folder.
    project = BUILT / "examples" / TENANT.name
    shutil.rmtree(project.parent, ignore_errors=True)
    shutil.copytree(TENANT, project, ignore=shutil.ignore_patterns("node_modules", "*.wasm"))
    shutil.copytree(ROOT / "wit", BUILT / "wit", dirs_exist_ok=True)
    return [js(project), *(js(make(kind, "js")) for kind in ("transformer", "renderer"))]


def everything_in_python():
    built = [python(REDACT), *(python(make(kind, "python")) for kind in ("transformer", "formatter"))]
    return [*built, with_wasi(REDACT), with_wasi(NOSY)]


def everything_in_go():
    return [*(go(make(kind, "go")) for kind in KINDS), panicking()]


def setUpModule():
    """Builds all, one language beside the other."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        for built in [pool.submit(everything) for everything in (everything_in_js, everything_in_python, everything_in_go)]:
            built.result()


def built(name):
    return BUILT / f"{name}.wasm"


class Contract(unittest.TestCase):
    def test_components_pass_check_and_import_nothing(self):
        components = [
            built("redact-py"),
            built("tenant-path-js"),
            *(built(f"new-{kind}-python") for kind in ("transformer", "formatter")),
            *(built(f"new-{kind}-js") for kind in ("transformer", "renderer")),
            *(built(f"new-{kind}-go") for kind in KINDS),
            *(RUST / f"new-{kind}.wasm" for kind in KINDS),
        ]

        def check(component):
            inspected = json.loads(logship("stage", "inspect", component, "--report", "json"))
            return inspected["imports"], logship("stage", "check", component)

        with ThreadPoolExecutor(2) as pool:
            for component, (imports, report) in zip(components, pool.map(check, components)):
                with self.subTest(component.name):
                    self.assertEqual(imports, [])
                    # Nothing in logship unpacks LZ4 and zlib.
                    skipped = int("-compressor" in component.name)
                    self.assertRegex(report, rf"\n\d+ checks passed, 0 failed, {skipped} skipped\n")
                    print(component.name, report.splitlines()[-2].strip())


class Shipping(unittest.TestCase):
    def setUp(self):
        self.folder = temporary_folder(self)
        self.logs = self.folder / "logs.ndjson"
        self.logs.write_text(json.dumps(LOG) + "\n")

    def ship(self, *options, expected=0):
        """The keys and the bytes of the objects that are shipped, by key."""
        to = self.folder / f"out{len(list(self.folder.iterdir()))}"
        self.told = logship("ship", self.logs, "--to", to, *options, expected=expected)
        files = [path for path in to.rglob("*") if path.is_file()]
        return {str(path.relative_to(to)): path.read_bytes() for path in files}

    def log(self, *options):
        """The only log that is shipped."""
        (content,) = self.ship(*options).values()
        return json.loads(content)


class Examples(Shipping):
    def test_redacts_addresses_and_cards(self):
        log = self.log("--transform", f"{built('redact-py')}={{}}")
        self.assertEqual((log["user"], log["card"]), ("***", "**** **** **** 1111"))
        self.assertEqual((log["password"], log["status"]), ("secret", "200"))
        settings = '{"with": "<>", "except": ["card"]}'
        log = self.log("--transform", f"{built('redact-py')}={settings}")
        self.assertEqual((log["user"], log["card"]), ("<>", LOG["card"]))
        self.ship("--transform", f"{built('redact-py')}={{\"emial\":true}}", expected=1)
        self.assertIn("rejects its configuration: emial: unknown setting emial", self.told)

    def test_redacts_more_than_buffer(self):
        """componentize-py never frees results of a stage, so that each session needs a new instance."""
        line = json.dumps(LOG | {"text": "x" * 1000}) + "\n"
        self.logs.write_text(line * 40_000)
        options = ("--transform", f"{built('redact-py')}={{}}", "--stage-memory", "40", "--size", "256")
        (content,) = self.ship(*options).values()
        self.assertEqual(content.count(b'"user":"***"'), 40_000)
        self.assertGreater(len(content), 40 << 20)

    def test_tenant_is_part_of_key(self):
        rule = self.folder / "rule.toml"
        rule.write_text(
            f'name = "acme-access"\nprefix = "logs"\npartition = "ds=%Y"\nstages.renderer = "{built("tenant-path-js")}"\n'
            '[path]\nfrom = "rule"\npattern = "^([a-z]+)-"\n'
        )
        (key,) = self.ship("--rule", rule)
        self.assertRegex(key, r"^logs/tenant=acme/ds=\d{4}_\d+_\d+$")


class Guarded(Shipping):
    """`logship stage guard` takes the runtimes of all languages, and changes no result."""

    def guarded(self, name):
        out = self.folder / f"{name}.wasm"
        logship("stage", "guard", built(name), "--output", out)
        return out

    def test_guarded_components_pass_check(self):
        names = ["redact-py", "tenant-path-js", "new-encoder-go", "new-compressor-go", "new-formatter-go"]

        def check(name):
            return logship("stage", "check", self.guarded(name))

        with ThreadPoolExecutor(2) as pool:
            for name, report in zip(names, pool.map(check, names)):
                with self.subTest(name):
                    self.assertRegex(report, r"\n\d+ checks passed, 0 failed, [01] skipped\n")

    def test_guarded_stages_make_same_objects(self):
        self.logs.write_text("".join(json.dumps(LOG | {"text": "\u00e9" * (n % 300)}) + "\n" for n in range(2000)))
        for name, option in [
            ("redact-py", "--transform"),
            ("new-transformer-js", "--transform"),
            ("new-encoder-go", "--encoder"),
            ("new-compressor-go", "--compressor"),
            ("tenant-path-js", "--renderer"),
        ]:
            with self.subTest(name):
                expected, found = (self.ship(option, stage, "--prefix", "logs") for stage in (built(name), self.guarded(name)))
                self.assertEqual([*found.values()], [*expected.values()])
                # The task's number differs.
                self.assertEqual([key.rsplit("/", 1)[0] for key in found], [key.rsplit("/", 1)[0] for key in expected])

    def test_guarded_stage_can_be_guarded_again(self):
        """As `logship function compose` does with a guarded file."""
        twice = self.folder / "twice.wasm"
        logship("stage", "guard", self.guarded("new-encoder-go"), "--output", twice)
        self.assertEqual(*([*self.ship("--encoder", stage).values()] for stage in (built("new-encoder-go"), twice)))


class Templates(Shipping):
    def test_new_stage_works(self):
        others = (built(f"new-transformer-{language}") for language in ("python", "js", "go"))
        for stage in (RUST / "new-transformer.wasm", *others):
            log = self.log("--transform", f"{stage}={{}}")
            self.assertEqual((log["user"], "password" in log), (LOG["user"], False), stage)
        for stage in (RUST / "new-renderer.wasm", built("new-renderer-js"), built("new-renderer-go")):
            (key,) = self.ship("--renderer", stage, "--prefix", "logs")
            self.assertRegex(key, r"^logs/shard=0/", stage)
        lines = [self.ship("--encoder", stage) for stage in (RUST / "new-encoder.wasm", built("new-encoder-go"))]
        (content,) = lines[0].values()
        self.assertTrue(content.startswith(b"1760000000\t") and b"\tsecret\t200" in content, content)
        self.assertEqual([*lines[1].values()], [content])
        (key,) = self.ship("--compressor", RUST / "new-compressor.wasm")
        self.assertTrue(key.endswith(".lz4"), key)
        (plain,) = self.ship().values()
        ((key, content),) = self.ship("--compressor", built("new-compressor-go")).items()
        self.assertTrue(key.endswith(".zlib"), key)
        self.assertEqual(zlib.decompress(content), plain)

    def test_go_stage_can_be_fused(self):
        """Components without imports can be in pipelines and functions."""
        fused = self.folder / "fused.wasm"
        stages = ("--encoder", built("new-encoder-go"), "--compressor", built("new-compressor-go"))
        (apart,) = self.ship(*stages).values()
        logship("compose", *stages, "--output", fused)
        (together,) = self.ship("--pipeline", fused).values()
        self.assertEqual(together, apart)
        self.assertEqual(zlib.decompress(together).split(b"\t")[0], b"1760000000")

    def test_go_panic_fails_only_its_task(self):
        self.ship("--encoder", built("new-panicking-go"), expected=1)
        self.assertIn("stage new-panicking-go (sha256:", self.told)
        self.assertIn("trapped", self.told)

    def test_rejects_module_of_other_kind(self):
        module = BUILT / "new-encoder-go/core.wasm"
        made = self.folder / "made.wasm"
        for kind, problem in [("renderer", "core.wasm: can't make a component of kind renderer from it: "), ("encoder", "")]:
            command = ("componentize", module, "--kind", kind, "--output", made)
            told = logship("stage", *command, expected=int(bool(problem)))
            self.assertIn(problem or "made.wasm: ", told)
            self.assertEqual(made.exists(), not problem)
        self.assertEqual(made.read_bytes(), built("new-encoder-go").read_bytes())
        told = logship("stage", "componentize", made, "--kind", "encoder", "--output", made, expected=1)
        self.assertIn("it is a component already", told)

    def test_keeps_existing_folder(self):
        made = ("stage", "new", "mine", "--kind", "encoder")
        self.assertIn("created mine/", logship(*made, folder=self.folder))
        (self.folder / "mine/Cargo.toml").write_text("mine")
        self.assertIn("mine already exists", logship(*made, folder=self.folder, expected=1))
        self.assertEqual((self.folder / "mine/Cargo.toml").read_text(), "mine")

    def test_rejects_unknown_template(self):
        for arguments, problem in [
            (("mine", "--kind", "encoder", "--lang", "python"), "for --kind transformer and formatter"),
            (("mine", "--kind", "compressor", "--lang", "js"), "for --kind transformer and renderer"),
        ]:
            self.assertIn(problem, logship("stage", "new", *arguments, folder=self.folder, expected=1))
        self.assertIn("beginning with a letter", logship("stage", "new", "../a", "--kind", "encoder", folder=self.folder, expected=2))
        self.assertEqual([path.name for path in self.folder.iterdir()], ["logs.ndjson"])


class Wasi(Shipping):
    def test_rejects_wasi_by_default(self):
        stage = built("redact-py-wasi")
        for command in (("inspect", stage), ("check", stage)):
            refused = logship("stage", *command, expected=1)
            self.assertIn("this component imports wasi:cli/environment@0.2", refused)
            self.assertIn("allow an empty WASI: with --allow-wasi", refused)
        self.ship("--transform", f"{stage}={{}}", expected=1)
        self.assertIn("allow an empty WASI", self.told)
        self.ship("--transform", f"{stage}={{}}", "--allow-wasi", "other.wasm", expected=1)
        self.assertIn("allow an empty WASI", self.told)
        inspected = json.loads(logship("stage", "inspect", stage, "--allow-wasi", "--report", "json"))
        self.assertTrue(all(name.startswith("wasi:") for name in inspected["imports"]) and inspected["imports"])

    def test_runtime_works_with_empty_wasi(self):
        self.assertRegex(logship("stage", "check", built("redact-py-wasi"), "--allow-wasi"), r"\d+ checks passed, 0 failed")
        stage = built("redact-py-wasi")
        digest = json.loads(logship("stage", "inspect", stage, "--allow-wasi", "--report", "json"))["sha256"]
        (plain,) = self.ship("--transform", f"{built('redact-py')}={{}}").values()
        for allowed in (stage, "redact-py", f"sha256:{digest}"):
            (content,) = self.ship("--transform", f"{stage}={{}}", "--allow-wasi", allowed).values()
            self.assertEqual(content, plain, allowed)

    def test_wasi_is_empty(self):
        stage = built("nosy-py-wasi")
        options = ("--transform", f"{stage}={{}}", "--allow-wasi", stage)
        log = self.log(*options)
        self.assertEqual((float(log["time"]), float(log["monotonic"]), log["environment"]), (0, 1e-9, "{}"))
        for what in ("file", "written", "folder", "socket", "name"):
            self.assertRegex(log[what], r"^\w+(Error|Exception|gaierror): |^\w*[eE]rror", what)
        self.assertFalse(Path("/tmp/nosy").exists())
        # The component asks for the time and for random numbers, and is still deterministic.
        self.assertEqual(self.log(*options), log)
        self.assertEqual(len(log["random"]), 32)

    def test_error_names_allowing_option(self):
        for allowed in ("./mine.wasm", "sha256:00", "Redact"):
            settings = self.folder / "settings.toml"
            settings.write_text(f'[stages]\nallow-wasi = ["{allowed}"]\n')
            refused = logship("serve", "--config", settings, folder=self.folder, expected=1)
            self.assertIn(f'stages.allow-wasi: "{allowed}" is invalid: use a stage name', refused)

    def test_reports_exit_of_runtime(self):
        stage = built("nosy-py-wasi")
        self.ship("--transform", f'{stage}={{"exit":true}}', "--allow-wasi", stage, expected=1)
        self.assertIn("stage nosy (sha256:", self.told)
        self.assertIn("trapped", self.told)


class Service(Case):
    settings = SETTINGS + 'allow-wasi = ["redact", "sha256:' + "0" * 64 + '"]\n'

    def test_service_allows_wasi_by_name(self):
        stage = built("redact-py-wasi")
        self.assertIn("allow an empty WASI", self.stage_refused("add", stage, "--name", "other"))
        self.assertIn("added redact 0.1.0", self.stage("add", stage, "--name", "redact"))
        self.rule("mine", "--transform", "redact={}")
        self.put(3)
        done = lambda: self.service.tasks("--rule", "mine", "--status", "success")
        wait_for(done, message="nothing is shipped")
        # A task has it by its digest, also when the service begins again.
        self.service.restart()
        self.put(3)
        wait_for(lambda: len(done()) > 1, message="nothing is shipped after the restart")
        tried = ("try", stage, "--rule", "mine", "--last", "1")
        self.assertIn("allow an empty WASI", self.stage_refused("try", built("nosy-py-wasi"), *tried[2:]))
        self.stage(*tried)
        self.stage("try", built("nosy-py-wasi"), *tried[2:], "--allow-wasi")
        self.assertIn("only to component files", self.stage_refused("try", "redact", *tried[2:], "--allow-wasi"))
