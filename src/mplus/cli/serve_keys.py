"""`mplus serve keys`: make, list and revoke the keys of a server's tenants. Opens no memory; a key is shown once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.options import AsJson, Verbose, a_path, example

app = typer.Typer(help="Make, list and revoke the keys of a server's tenants.")

KeyFile = Annotated[Path, typer.Option("--api-keys", metavar="FILE", parser=a_path, help="The file of keys.", show_default=False)]


@app.command("add", epilog=example("mplus serve keys add anna --api-keys keys.json"))
def add(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose memories the key opens.", show_default=False)],
    api_keys: KeyFile,
    admin: Annotated[bool, typer.Option("--admin", help="It may also set quotas and see metrics.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a key for a tenant, and the file where there is none. Prints the key, which nothing can show again.

    A tenant may have several keys. A running server knows the new one at once.
    """
    from mplus.server.keys import add_key

    made, key = add_key(api_keys, tenant, admin=admin)
    terminal.mark_stored(api_keys)
    if as_json:
        terminal.say_json({"key": key, "id": made.id, "tenant": made.tenant, "admin": made.admin})
    else:
        terminal.say(key)
        terminal.note(f"{made.id} for {tenant!r}; only its hash is in {api_keys}, so keep it now")


@app.command("list", epilog=example("mplus serve keys list --api-keys keys.json"))
def list_(api_keys: KeyFile, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Show the ids and tenants of all keys."""
    from mplus.server.keys import read_keys

    keys = read_keys(api_keys)
    if as_json:
        terminal.say_json([one.model_dump(exclude={"digest"}) for one in keys])
        return
    table = terminal.table("key", "tenant", "admin", "made", text_columns=(0, 1, 2, 3))
    for one in keys:
        table.add_row(one.id, one.tenant, "yes" if one.admin else "", one.created_at)
    terminal.results().print(table)


@app.command("revoke", epilog=example("mplus serve keys revoke key_0123456789ab --api-keys keys.json"))
def revoke(
    key: Annotated[
        str, typer.Argument(metavar="ID", help="Id of a key, as `mplus serve keys list` shows it.", show_default=False)
    ],
    api_keys: KeyFile,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Take a key out of the file; a running server refuses it from the next request on."""
    from mplus.server.keys import revoke_key

    gone = revoke_key(api_keys, key)
    terminal.mark_stored(api_keys)
    if as_json:
        terminal.say_json({"id": gone.id, "tenant": gone.tenant, "revoked": True})
    else:
        terminal.say(f"{gone.id} of {gone.tenant!r} is revoked")
