"""`bevstack leaderboard`: signed result bundles that anyone can check and score again, and the page of their table."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bevstack.evaluation.comparison.bundle import Verified

EXIT_NOT_CONFIRMED = 3

_EPILOG = """examples:
  bevstack leaderboard key my.key                                   # once; tell people the fingerprint
  bevstack leaderboard pack runs/latest entries/ours.zip --key my.key
  bevstack leaderboard verify entries/ours.zip
  bevstack leaderboard rescore entries/ours.zip --data /data/nuscenes
  bevstack leaderboard page entries leaderboard.html

exit code: 0 done; 1 refused or failed, such as a bundle that was changed; 2 wrong usage; 3 rescore: a figure did not
come out as claimed, or not all could be computed.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="bevstack leaderboard",
        description="Result bundles: predictions, figures, protocols, hashes of data and model, and versions in one "
        "zip file, signed with Ed25519.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    key = commands.add_parser("key", help="make a private key to sign with")
    key.add_argument("out", metavar="FILE", type=Path, help="new file; keep it to yourself")
    pack = commands.add_parser("pack", help="make a bundle of the results of an evaluation")
    pack.add_argument("run", metavar="RUN", help="results folder of 'bevstack eval', or a run with one in eval/")
    pack.add_argument("out", metavar="OUT", type=Path, help="the bundle, a new .zip file")
    pack.add_argument("--name", help="what the table calls it (default: the checkpoint's name)")
    pack.add_argument("--key", metavar="FILE", type=Path, help="sign with this key (default: hashes only)")
    verify = commands.add_parser("verify", help="check the hashes and the signature of a bundle")
    verify.add_argument("bundle", metavar="BUNDLE", type=Path)
    verify.add_argument("--signer", metavar="FINGERPRINT", help="refuse a bundle that this key did not sign")
    again = commands.add_parser("rescore", help="compute the figures of a bundle again from its predictions")
    again.add_argument("bundle", metavar="BUNDLE", type=Path)
    again.add_argument("--data", metavar="ROOT", type=Path, required=True, help="folder with the v1.0-... folder")
    page = commands.add_parser("page", help="make the page of all bundles in a folder")
    page.add_argument("folder", metavar="FOLDER", type=Path, help="folder of .zip bundles")
    page.add_argument("out", metavar="OUT.html", type=Path)
    return parser


def run(arguments: list[str]) -> int:
    """Do what the second word says."""
    args = parser().parse_args(arguments)
    commands = {"key": _key, "pack": _pack, "verify": _verify, "rescore": _rescore, "page": _page}
    return commands[args.command](args)


def _key(args: argparse.Namespace) -> int:
    from bevstack.evaluation.comparison.bundle_signature import make_key

    print(f"key          {args.out}\nfingerprint  {make_key(args.out).fingerprint}")
    return 0


def _pack(args: argparse.Namespace) -> int:
    from bevstack.evaluation.comparison.bundle import pack, verify

    pack(args.run, args.out, name=args.name, key=args.key)
    return _print_verified(verify(args.out))


def _verify(args: argparse.Namespace) -> int:
    from bevstack.evaluation.comparison.bundle import verify

    bundle = verify(args.bundle)
    signer = bundle.signature.fingerprint if bundle.signature else "nobody"
    if args.signer is not None and args.signer != signer:
        raise ValueError(f"{args.bundle} was signed by {signer}, not by {args.signer}")
    return _print_verified(bundle)


def _print_verified(bundle: "Verified") -> int:
    manifest = bundle.manifest
    data, model = manifest["data"], manifest["model"]
    print(f"bundle     {bundle.path}  {manifest['name']}")
    print(f"files      {len(manifest['files'])}, all as the manifest says")
    if bundle.signature is None:
        print("signature  none: whole, but anyone could have made it")
    else:
        print(f"signature  fits the key {bundle.signature.fingerprint}")
    print(f"data       {data['version']} {data['split']}, {data['num_frames']} frames, hash {data['hash'][:16]}")
    print(f"model      {model['name']}, hash {(model['sha256'] or 'not known')[:16]}")
    print(f"protocols  {', '.join(manifest['protocols'])}")
    return 0


def _rescore(args: argparse.Namespace) -> int:
    from bevstack.evaluation.comparison.bundle import verify
    from bevstack.evaluation.predictions.rescore import rescore

    rows = rescore(verify(args.bundle), args.data)
    for row in rows:
        print(f"{row.row}: {len(row.confirmed)} figures came out as claimed")
        for name, (claimed, computed) in row.different.items():
            print(f"  DIFFERENT   {name}: claimed {claimed}, computed {computed}")
        if row.not_scored:
            print(f"  not scored  {len(row.not_scored)}: {', '.join(row.not_scored[:5])} ...")
    is_confirmed = all(row.confirmed and not row.different and not row.not_scored for row in rows)
    print("confirmed" if is_confirmed else "NOT CONFIRMED")
    return 0 if is_confirmed else EXIT_NOT_CONFIRMED


def _page(args: argparse.Namespace) -> int:
    from bevstack.report.leaderboard import read_entries, write_page

    bundles, refused = read_entries(args.folder)
    page = write_page(bundles, refused, args.out)
    for problem in refused:
        print(f"left out  {problem}")
    print(f"{len(bundles)} bundles\npage  {page}")
    return 0
