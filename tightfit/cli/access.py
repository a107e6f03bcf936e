"""The commands about who may use the service: tokens made, listed and revoked."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from space.errors import UsageError
from tightfit.cli.base import AsJson, Home, open_service, print_json

SCOPES = ("read", "submit", "admin")
token_app = typer.Typer(help="Tokens of those who may use `tightfit serve`.", no_args_is_help=True)


@token_app.command()
def add(
    user: Annotated[str, typer.Argument(help="Whose it is.")],
    scope: Annotated[str, typer.Option(help="`read`, `submit` or `admin`: sees and may do everything.")] = "submit",
    days: Annotated[int | None, typer.Option(min=1, max=36500, help="Good for so long [default: for ever].")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Make a token and print it, once: only its digest is kept."""
    from storage.people import new_token

    if scope not in SCOPES:
        raise UsageError(f"--scope {scope}: use one of {', '.join(SCOPES)}.")
    if not user.isprintable() or not user.strip():
        raise UsageError(f"{user!a} is no name of a user: write printable characters.")
    now = datetime.now(UTC)
    token, text = new_token(user, scope, now, None if days is None else now + timedelta(days=days))
    open_service(home, create=True).store.create_token(token)
    print_json({"token": text, "id": token.token_id, "user": user, "scope": scope}) if as_json else print(text)


@token_app.command(name="list")
def list_tokens(as_json: AsJson = False, home: Home = None) -> None:
    """List tokens by their public parts."""
    tokens = open_service(home).store.list_tokens()
    rows = [
        {
            "id": token.token_id,
            "user": token.user,
            "scope": token.scope,
            "created_at": token.created_at.isoformat(),
            "expires_at": token.expires_at.isoformat() if token.expires_at else None,
        }
        for token in tokens
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        until = f"until {row['expires_at']}" if row["expires_at"] else "for ever"
        print(f"{row['id']}  {row['scope']:<6}  {row['user']}  {until}")
    if not rows:
        print("There are no tokens; `tightfit token add USER` makes one.")


@token_app.command()
def revoke(token: Annotated[str, typer.Argument(help="The token's id.")], home: Home = None) -> None:
    """Make a token good for nothing, at once."""
    open_service(home).store.revoke_token(token)
    print(f"Token {token} is revoked.")
