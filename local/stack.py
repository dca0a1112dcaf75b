"""What one Tally on this machine consists of: the services, their addresses, and what each is told of the others."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from local.billing import ADMIN_KEY
from local.home import ROOT, Home, Secrets
from local.inbox import TEAM_ID
from local.login import AUDIENCE
from local.services import Service, free_ports, port_near

TOPIC: Final = "projects/local/topics/usage-events"
SUBSCRIPTION: Final = "projects/local/subscriptions/ingest"
PROXY_PORT, DASHBOARD_PORT = 4000, 8501
PROVIDER_KEYS: Final = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "MOONSHOT_API_KEY")
# What `make up` hands to the bills function; without an admin key it is not started.
ADMIN_SETTINGS: Final = (
    "TALLY_OPENAI_ADMIN_KEY", "TALLY_OPENAI_GATEWAY", "TALLY_ANTHROPIC_ADMIN_KEY", "TALLY_ANTHROPIC_GATEWAY",
)  # fmt: skip
# What a shell says of agents and providers must not reach the gateway: it would call itself, or somebody else.
_NOT_OURS: Final = (
    "ANTHROPIC_", "OPENAI_", "OPENROUTER_", "MOONSHOT_", "LITELLM_", "CLAUDE", "CODEX_", "TALLY_", "PUBSUB_", "SLACK_",
    "GOOGLE_", "FIRESTORE_", "BIGQUERY_", "STREAMLIT_", "CONFIG_FILE_PATH", "PORT", "DEBUG", "WEB_CONCURRENCY",
)  # fmt: skip
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True)
class Ports:
    """Where everything listens, on loopback."""

    proxy: int
    dashboard: int
    warehouse: int
    pubsub: int
    provider: int
    ingest: int
    keys: int
    alerts: int
    bills: int
    inbox: int
    smtp: int
    login: int

    @classmethod
    def choose(cls, proxy: int, dashboard: int) -> Ports:
        """The two that people type as wished for or close to it, the others wherever there is room."""
        first, second = port_near(proxy), port_near(dashboard)
        return cls(first, second if second != first else port_near(first + 1), *free_ports(10))

    def url(self, name: str) -> str:
        """http://127.0.0.1:port of a service."""
        return f"http://127.0.0.1:{getattr(self, name)}"


def clean_environment(offline: bool) -> dict[str, str]:
    """This process's environment without what would mislead a service; `offline` also without any proxy server."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_NOT_OURS) and not (offline and name.lower() in _PROXIES)
    }
    return kept | {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "DO_NOT_TRACK": "1",
    }


@dataclass(frozen=True)
class Stack:
    """One Tally. `provider_keys` empty: the simulated provider stands in for all of them."""

    home: Home
    ports: Ports
    secrets: Secrets
    policy: Path
    person: str
    provider_keys: Mapping[str, str]
    traffic_per_minute: float = 0.0
    admin_settings: Mapping[str, str] = field(default_factory=dict)  # of the bills function, in a run that has any
    login_secret: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    @property
    def simulated(self) -> bool:
        """Whether nothing leaves this machine."""
        return not self.provider_keys

    @property
    def reads_bills(self) -> bool:
        """Whether there is a provider whose bill can be read."""
        return self.simulated or bool(self.admin_settings)

    def run(self, key: str) -> dict[str, Any]:
        """What other programs are told in run.json."""
        p = self.ports
        return {
            "proxy_url": p.url("proxy"),
            "dashboard_url": p.url("dashboard"),
            "provider_url": p.url("provider") if self.simulated else None,
            "key": key,
            "person": self.person,
            "warehouse_url": p.url("warehouse"),
            "pubsub": f"127.0.0.1:{p.pubsub}",
            "topic": TOPIC,
            "ingest_url": p.url("ingest"),
            "keys_url": p.url("keys"),
            "alerts_url": p.url("alerts"),
            "bills_url": p.url("bills") if self.reads_bills else None,
            "inbox_url": p.url("inbox"),
            "token_url": f"{p.url('login')}/token/{self.login_secret}",
            "registry": self.home.registry_url,
            "pid": os.getpid(),
        }

    def services(self) -> list[Service]:
        """In the order of the data, the other way round: stopping goes from the last to the first."""
        names = ["warehouse", "inbox", "login", "provider", "ingest", "pubsub", "spool", "alerts", "bills", "keys"]
        names += ["dashboard", "proxy"]
        absent = {"provider"} if not self.simulated else set()
        absent |= {"bills"} if not self.reads_bills else set()
        made = {name: getattr(self, f"_{name}")() for name in names if name not in absent}
        return [*made.values(), *([self._traffic()] if self.simulated and self.traffic_per_minute else [])]

    def _module(self, name: str, *arguments: str, **about: Any) -> Service:
        return Service(name, (sys.executable, "-m", f"local.{name}", *arguments), **about)

    def _warehouse(self) -> Service:
        path, port = self.home.data / "warehouse.duckdb", self.ports.warehouse
        ready = self.ports.url("warehouse") + "/healthz"
        return self._module("warehouse", "--port", str(port), "--path", str(path), ready=ready)

    def _inbox(self) -> Service:
        given = ("--port", str(self.ports.inbox), "--smtp-port", str(self.ports.smtp))
        people = ("--people", str(self.policy / "people.csv"), "--interact", self.ports.url("keys"))
        env = {"TALLY_SLACK_SIGNING_SECRET": self.secrets.slack_signing_secret}
        return self._module("inbox", *given, *people, env=env, ready=self.ports.url("inbox"))

    def _login(self) -> Service:
        given = ("--port", str(self.ports.login), "--people", str(self.policy / "people.csv"), "--person", self.person)
        env = {"TALLY_LOGIN_SECRET": self.login_secret}
        return self._module("login", *given, env=env, ready=self.ports.url("login") + "/certs")

    def _provider(self) -> Service:
        given = ("--port", str(self.ports.provider), "--ledger", str(self.home.data / "bill.jsonl"))
        contract = ("--policy", str(self.policy))
        return self._module("provider", *given, *contract, ready=self.ports.url("provider") + "/healthz")

    def _pubsub(self) -> Service:
        given = ("--port", str(self.ports.pubsub), "--path", str(self.home.data / "pubsub.sqlite"))
        push = ("--topic", TOPIC, "--push", self.ports.url("ingest"))
        return self._module("pubsub", *given, *push, ready=f"127.0.0.1:{self.ports.pubsub}")

    def _spool(self) -> Service:
        given = ("--path", str(self.home.data / "spill.jsonl"), "--topic", TOPIC)
        env = {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{self.ports.pubsub}"}
        return self._module("spool", *given, env=env, after=("pubsub",))

    def _function(self, name: str, env: Mapping[str, str]) -> Service:
        framework = str(Path(sys.executable).with_name("functions-framework"))
        source = str(ROOT / "functions" / name / "main.py")
        given = ("--source", source, "--target", name, "--host", "127.0.0.1", "--port", str(getattr(self.ports, name)))
        return Service(name, (framework, *given), env, f"127.0.0.1:{getattr(self.ports, name)}")

    def _ingest(self) -> Service:
        return self._function("ingest", {"TALLY_WAREHOUSE": self.ports.url("warehouse"), "THREADS": "32"})

    def _alerts(self) -> Service:
        env = {
            "TALLY_WAREHOUSE": self.ports.url("warehouse"),
            "TALLY_REGISTRY": self.home.registry_url,
            "TALLY_POLICY_DIR": str(self.policy),
            "TALLY_SLACK_WEBHOOK_URL": self.ports.url("inbox") + "/slack",
            "TALLY_SLACK_BOT_TOKEN": self.secrets.slack_bot_token,
            "TALLY_SLACK_API_URL": self.ports.url("inbox") + "/api/",
            "TALLY_SMTP_URL": f"smtp://127.0.0.1:{self.ports.smtp}",
            "TALLY_DASHBOARD_URL": self.ports.url("dashboard"),
            "THREADS": "2",
        }
        return self._function("alerts", env)

    def _bills(self) -> Service:
        env = {"TALLY_WAREHOUSE": self.ports.url("warehouse"), "THREADS": "2", **self.admin_settings}
        if self.simulated:
            for provider, own in (("OPENAI", "proj_gateway"), ("ANTHROPIC", "wrkspc_gateway")):
                env |= {
                    f"TALLY_{provider}_ADMIN_KEY": ADMIN_KEY,
                    f"TALLY_{provider}_ADMIN_URL": self.ports.url("provider"),
                    f"TALLY_{provider}_GATEWAY": own,
                }
        return self._function("bills", env)

    def _keys(self) -> Service:
        env = {
            "TALLY_REGISTRY": self.home.registry_url,
            "TALLY_KEY_PEPPER": self.secrets.key_pepper,
            "TALLY_SLACK_SIGNING_SECRET": self.secrets.slack_signing_secret,
            "TALLY_SLACK_BOT_TOKEN": self.secrets.slack_bot_token,
            "TALLY_SLACK_TEAM_ID": TEAM_ID,
            "TALLY_SLACK_API_URL": self.ports.url("inbox") + "/api/",
            "TALLY_POLICY_DIR": str(self.policy),
            "TALLY_PROXY_URL": self.ports.url("proxy"),
            "TALLY_API_AUDIENCE": AUDIENCE,
            "TALLY_API_CERTS_URL": self.ports.url("login") + "/certs",
            "THREADS": "2",
        }
        return self._function("keys", env)

    def _dashboard(self) -> Service:
        env = {
            "TALLY_WAREHOUSE": self.ports.url("warehouse"),
            "TALLY_REGISTRY": self.home.registry_url,
            "TALLY_POLICY_DIR": str(self.policy),
            "TALLY_PROXY_URL": self.ports.url("proxy"),
            "TALLY_VIEWER": self.person,
        }
        app = (sys.executable, "-m", "streamlit", "run", str(ROOT / "streamlit_app" / "app.py"))
        server = ("--server.address", "127.0.0.1", "--server.port", str(self.ports.dashboard))
        return Service("dashboard", (*app, *server), env, self.ports.url("dashboard") + "/_stcore/health")

    def _proxy(self) -> Service:
        env = {
            "TALLY_REGISTRY": self.home.registry_url,
            "TALLY_KEY_PEPPER": self.secrets.key_pepper,
            "TALLY_TOPIC": TOPIC,
            "TALLY_SPILL": str(self.home.data / "spill.jsonl"),
            "TALLY_POLICY_DIR": str(self.policy),
            "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{self.ports.pubsub}",
            "LITELLM_MASTER_KEY": f"sk-{self.secrets.litellm_master_key}",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            **self.provider_keys,
        }
        if self.simulated:
            base = self.ports.url("provider")
            env |= dict.fromkeys(PROVIDER_KEYS, "simulated")
            env |= {
                "ANTHROPIC_API_BASE": base,
                "OPENAI_API_BASE": f"{base}/v1",
                "OPENROUTER_API_BASE": f"{base}/openrouter/api/v1",
                "MOONSHOT_API_BASE": f"{base}/moonshot/v1",
            }
        # LiteLLM takes the longest to load, so it waits for nobody: what it needs is there before it asks.
        argv = (sys.executable, "-m", "uvicorn", "proxy_service.main:app", "--host", "127.0.0.1")
        given = ("--port", str(self.ports.proxy), "--no-access-log", "--no-proxy-headers", "--log-level", "warning")
        return Service("proxy", (*argv, *given), env, self.ports.url("proxy") + "/health/liveliness")

    def _traffic(self) -> Service:
        where = ("--proxy", self.ports.url("proxy"), "--provider", self.ports.url("provider"))
        given = (*where, "--keys", str(self.home.data / "keys.json"))
        who = ("--people", str(self.policy / "people.csv"), "--but", self.person)
        pace = ("--per-minute", str(self.traffic_per_minute))
        return self._module("traffic", *given, *who, *pace, after=("proxy", "ingest", "pubsub"))
