"""The style sheet of the report, and what the dashboard has in common with it, from the theme."""

from __future__ import annotations

from dashboards.style.theme import BLUE, DARK, LIGHT, MARKS, MONO, ORANGE, SANS, SERIF, ColourScheme


def colours(scheme: ColourScheme) -> str:
    """The variables of a colour scheme."""
    return (
        f"--paper:{scheme.paper};--raised:{scheme.raised};--ink:{scheme.ink};--muted:{scheme.muted};"
        f"--rule:{scheme.rule};--link:{scheme.link};--blue:{BLUE};--orange:{ORANGE}"
    )


def base_css() -> str:
    """Rules common to the report and the dashboard: colours of both schemes, type, tables, code."""
    return f"""
:root{{{colours(LIGHT)};color-scheme:light dark}}
@media (prefers-color-scheme:dark){{:root{{{colours(DARK)}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 {SANS};
-webkit-text-size-adjust:100%}}
h1,h2,h3,.lead{{font-family:{SERIF};font-weight:600;line-height:1.22;text-wrap:balance}}
a{{color:var(--link)}}
code,pre,.mono{{font-family:{MONO};font-size:.86em}}
pre{{background:var(--raised);border-radius:6px;padding:.9rem 1.1rem;overflow-x:auto;line-height:1.6;
margin:.8rem 0}}
table{{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums lining-nums}}
th{{font-weight:600;text-align:right;color:var(--muted);padding:.2rem .55rem;vertical-align:bottom}}
td{{text-align:right;padding:.34rem .55rem;white-space:nowrap}}
th:first-child,td:first-child{{text-align:left;padding-left:0}}
thead tr:last-child th{{border-bottom:1px solid var(--muted)}}
.err{{color:var(--muted);font-size:.92em;margin-left:.3em}}
.muted{{color:var(--muted)}}
@media (hover:none),(max-width:600px),print{{.mouse{{display:none}}}}
.scroll{{overflow-x:auto}} .scroll>table{{min-width:100%}}
"""


def _marks() -> str:
    """The colours of studies that are shown side by side."""
    return " ".join(f".sign.of{i}{{color:{mark.colour}}}" for i, mark in enumerate(MARKS))


def _networks() -> str:
    """Tables of networks, each row with layers and details below it; where the page is narrow, lists."""
    return f"""
table.members,table.numbers{{width:100%}}
.members>tbody>tr>td{{padding-top:.6rem;vertical-align:baseline}}
.members>tbody>tr.below>td{{white-space:normal;text-align:left;padding:.1rem 0 .6rem;
border-bottom:1px solid var(--rule)}}
.members>tbody>tr>td:first-child{{white-space:normal}}
ul.layers{{list-style:none;display:flex;flex-wrap:wrap;gap:.15rem .4rem;margin:0;padding:0;max-width:none;
color:var(--muted);font-size:.8rem;line-height:1.35}}
ul.layers li{{background:var(--raised);border-radius:3px;padding:.1rem .45rem;min-width:0}}
.members p{{margin:.25rem 0 0;font-size:.8rem}}
.members details summary{{font-size:.8rem;margin:.3rem 0 0}}
.details{{display:grid;grid-template-columns:minmax(0,1.25fr) minmax(0,1fr);gap:1rem 2.4rem;
margin:.4rem 0 .6rem;align-items:start}}
.numbers td{{padding:.22rem 0 .22rem .8rem;border-bottom:1px solid var(--rule);white-space:nowrap}}
.numbers th{{padding-left:.8rem}}
.numbers td:first-child,.numbers th:first-child{{white-space:normal;min-width:8rem;padding-left:0}}
.numbers th.group{{padding:.7rem 0 .2rem;text-align:left;color:var(--ink)}}
.how{{color:var(--muted);font-size:.92em;margin-right:.7em}} .rough{{color:var(--orange);font-weight:600}}
ul.source{{list-style:none;margin:0;padding:.6rem .8rem;max-width:none;background:var(--raised);
border-radius:6px;font-family:{MONO};font-size:.74rem;line-height:1.5}}
ul.source li{{padding-left:1.6em;text-indent:-1.6em;overflow-wrap:anywhere}}
@media screen and (max-width:760px){{.details{{grid-template-columns:minmax(0,1fr)}}
.members>thead{{display:none}}
.members,.members>tbody,.members>tbody>tr,.members>tbody>tr>td{{display:block}}
.members>tbody{{border-bottom:1px solid var(--rule);padding:.5rem 0}}
.members>tbody>tr.below>td{{border:0;padding:.3rem 0 .2rem}}
.members>tbody>tr>td{{padding:.12rem 0}}
.members>tbody>tr>td[data-label]:empty{{display:none}}
td[data-label]::before{{content:attr(data-label);color:var(--muted);float:left;padding-right:1rem}}
.numbers td,.numbers th{{padding-left:.4rem}} .numbers td:first-child{{min-width:0}}}}
"""


def report_css() -> str:
    """The report: one column with wide margins."""
    return (
        base_css()
        + f"""
main{{overflow-wrap:break-word;max-width:1100px;margin:0 auto;padding:3.2rem 2rem 5rem}}
.kicker{{color:var(--muted);font-size:.86rem;margin:0 0 .7rem}}
h1{{font-size:2.3rem;letter-spacing:-.012em;margin:0 0 .9rem;max-width:24em}}
.lead{{font-weight:400;font-size:1.24rem;line-height:1.5;margin:0;max-width:44em;text-wrap:pretty}}
h2{{font-size:1.5rem;margin:3.4rem 0 .6rem}}
h3{{font-size:1.08rem;margin:1.8rem 0 .4rem}}
p,ul{{max-width:44em;margin:.5rem 0 .8rem;text-wrap:pretty}}
p.muted,ul.muted{{font-size:.9rem;max-width:54em}}
dl.facts{{display:grid;grid-template-columns:repeat(auto-fit,minmax(13.5rem,1fr));gap:.9rem 2rem;
margin:2rem 0 0;
padding:1.1rem 0;border-top:1px solid var(--rule);border-bottom:1px solid var(--rule)}}
dl.facts div{{min-width:0}} dl.facts dt{{color:var(--muted);font-size:.8rem}}
dl.facts dd{{margin:0;font-size:.92rem;line-height:1.42;overflow-wrap:anywhere}}
figure{{margin:1.2rem 0 1.6rem}}
figcaption{{color:var(--muted);font-size:.86rem;line-height:1.5;max-width:54em;margin-top:.3rem}}
.pair{{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:1.6rem}} .pair>*{{min-width:0}}
.pair figure{{margin:.4rem 0}}
code.option{{white-space:nowrap}}
dl.commands dt{{color:var(--muted);font-size:.86rem;margin-top:.7rem}}
dl.commands dd{{margin:.15rem 0 0}}
dl.commands code{{display:block;background:var(--raised);border-radius:6px;padding:.5rem .8rem .5rem 2.4rem;
text-indent:-1.6rem;overflow-wrap:anywhere}}
.ruled tbody td{{border-bottom:1px solid var(--rule)}}
.words td,.words th{{text-align:left;white-space:normal;vertical-align:top}}
.tag{{font-family:{SANS};font-size:.72rem;border-radius:3px;padding:.08rem .36rem;margin-left:.55em;
white-space:nowrap;display:inline-block;line-height:1.3;border:1px solid var(--rule);color:var(--muted)}}
.tag.scratch{{color:var(--orange);border-color:currentColor}}
.tag.tied{{color:var(--link);border-color:currentColor}}
.tag .sign{{margin-right:.35em}} .sign{{margin-right:.55em}}
.standing td:nth-child(2),.standing th:nth-child(2){{text-align:left}}
{_networks()}
{_marks()}
.note{{border-left:3px solid var(--orange);padding:.1rem 0 .1rem 1rem;margin:1rem 0}}
.missing{{color:var(--muted)}}
details summary{{cursor:pointer;color:var(--link);margin:.8rem 0;font-size:.92rem}}
footer{{color:var(--muted);font-size:.84rem;margin-top:4rem;border-top:1px solid var(--rule);
padding-top:1rem}}
@media screen and (max-width:760px){{main{{padding:1.6rem 1rem 3rem}}
.pair{{grid-template-columns:minmax(0,1fr)}}
h1{{font-size:1.7rem}}
.lead{{font-size:1.08rem}}}}
@media print{{:root{{{colours(LIGHT)}}} body{{font-size:10.5pt}} main{{padding:0;max-width:none}}
a{{color:inherit}}
h2{{break-after:avoid}} figure,tr,pre,.note{{break-inside:avoid}} details summary{{display:none}}
tbody,ul.source{{break-inside:avoid}}
.scroll{{overflow:visible}}
table{{font-size:8pt}} td,th{{padding-left:.35rem;padding-right:.35rem}}}}
"""
    )
