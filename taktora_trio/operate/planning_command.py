"""The commands `plan` and `explain-policy`: what a deployment comes to, before it runs. Their help is in `cli`."""

from __future__ import annotations

from typing import Annotated

import attrs
from cyclopts import Parameter

from taktora_trio.connectors.plan import specs_of
from taktora_trio.errors import ConfigError
from taktora_trio.runners.command.target import Configured, Target, as_configured
from taktora_trio.runners.deployment import Deployment
from taktora_trio.runners.options import Policies
from taktora_trio.runners.store_plan import plan_stores, stores_text
from taktora_trio.runners.this_process.outcome import show
from taktora_trio.supervision.explain import explain_all, to_json, to_text
from taktora_trio.supervision.policy import RestartPolicy
from taktora_trio.transport.sizing import plan_memory

__all__ = ["explain_policy", "plan"]


def plan(
    target: Target,
    /,
    *,
    json: Annotated[bool, Parameter(negative="", help="As JSON, with sizes in bytes.")] = False,
    store: Annotated[str | None, Parameter(help="The folder that the run is given by --store.")] = None,
    config: Configured = None,
) -> int:
    """Show the plan of the shared memory."""
    deployment = as_configured(target, config, store=store)[0]
    memory, stores = plan_memory(specs_of(deployment.connectors)), plan_stores(deployment)
    if json:
        show(memory.to_json(stores=[attrs.asdict(store) for store in stores]).decode())
    else:
        show("\n\n".join(filter(None, [memory.table(), stores_text(stores)])))
    return 0 if memory.fits else 2


def explain_policy(
    what: Annotated[
        str | None,
        Parameter(help="A deployment, as MODULE:DEPLOYMENT, or a policy, as intensity=5,period=60; else the defaults."),
    ] = None,
    /,
    *,
    policies: Annotated[Policies, Parameter(name="*")] = Policies(),
    json: Annotated[bool, Parameter(negative="", help="As JSON, with times in seconds.")] = False,
    config: Configured = None,
) -> int:
    """Explain restart policies."""
    explained = explain_all(_policies(what, policies, config))
    show(to_json(explained).decode() if json else to_text(explained))
    return 0


def _policies(what: str | None, changes: Policies, config: str | None) -> dict[str, RestartPolicy]:
    """Return the policies to explain, by half; under an empty name if a policy itself was given."""
    gateway, plugin = changes.gateway_policy, changes.plugin_policy
    if what is not None and "=" in what:
        if gateway or plugin:
            raise ConfigError(f"{what!r} is a policy: give MODULE:DEPLOYMENT with --gateway-policy or --plugin-policy")
        return {"": RestartPolicy().changed(what)}
    if what is not None:
        given = {"gateway-policy": gateway, "plugin-policy": plugin}
        deployment, _ = as_configured(what, config, **given)
        return {"gateway": deployment.gateway_policy, "plugin": deployment.plugin_policy}
    defaults = {half: getattr(attrs.fields(Deployment), f"{half}_policy").default for half in ("gateway", "plugin")}
    return {
        "gateway": defaults["gateway"].changed(gateway) if gateway else defaults["gateway"],
        "plugin": defaults["plugin"].changed(plugin) if plugin else defaults["plugin"],
    }
