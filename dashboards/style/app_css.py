"""The style sheet of the dashboard: the same type as the report, as wide as the window, down to a phone."""

from __future__ import annotations

from dashboards.style.css import base_css
from dashboards.style.theme import BLUE, DARK, LIGHT, MONO, ORANGE, SERIF, ColourScheme, faint

PHONE_WIDTH = 760
"""Pixels up to which a window counts as narrow; figures are drawn for it there, too."""


def _dash_colours(scheme: ColourScheme) -> str:
    """Dash's own variables, so that its controls have the colours of the page."""
    return (
        f"--Dash-Fill-Inverse-Strong:{scheme.paper};--Dash-Text-Primary:{scheme.ink};--Dash-Text-Strong:{scheme.ink};"
        f"--Dash-Text-Weak:{scheme.muted};--Dash-Text-Disabled:{scheme.muted};"
        f"--Dash-Stroke-Strong:{scheme.muted};--Dash-Stroke-Weak:{scheme.rule};"
        f"--Dash-Fill-Interactive-Strong:{BLUE};--Dash-Fill-Primary-Hover:{scheme.raised};"
        f"--Dash-Fill-Primary-Active:{scheme.raised};--Dash-Fill-Interactive-Weak:{scheme.raised};"
        f"--Dash-Fill-Disabled:{scheme.rule}"
    )


def app_css() -> str:
    """All rules of the dashboard."""
    return base_css() + _frame() + _controls() + _studies() + _networks() + _narrow()


def _frame() -> str:
    return f"""
html:root{{{_dash_colours(LIGHT)}}}
@media (prefers-color-scheme:dark){{html:root{{{_dash_colours(DARK)}}}}}
main{{max-width:1560px;margin:0 auto;padding:0 2rem 4rem;overflow-wrap:break-word}}
h1{{font-size:1.75rem;margin:1.1rem 0 .25rem}} h2{{font-size:1.12rem;margin:0 0 .35rem}}
h1 .muted,h2 .muted{{font-weight:400;font-size:.62em;font-family:{MONO}}} h2 .muted{{font-size:.8em}}
p{{margin:.15rem 0 .45rem;max-width:62rem}} .small{{font-size:.8rem}}
section p.muted,aside p.muted,.pair ul{{font-size:.88rem}}
.narrow{{max-width:52rem}}
.caption{{color:var(--muted);font-size:.84rem;line-height:1.5;max-width:56rem;margin-top:.3rem}}
nav.top{{display:flex;flex-wrap:wrap;align-items:baseline;gap:.3rem 2rem;padding:.9rem 0 .5rem;
border-bottom:1px solid var(--rule)}}
nav.top a{{text-decoration:none}} nav.top a:hover{{text-decoration:underline}}
.crumbs{{display:flex;gap:.5rem;min-width:0;font-family:{SERIF}}} .crumbs>*{{overflow-wrap:anywhere}}
.crumbs>*+*::before{{content:"/";color:var(--muted);margin-right:.5rem}}
.tabs{{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;font-size:.92rem}}
.tabs a.here{{color:var(--ink);font-weight:600;border-bottom:2px solid var(--blue)}}
:focus-visible{{outline:2px solid var(--blue);outline-offset:2px}}
abbr[title]{{text-decoration:underline dotted var(--muted);text-underline-offset:.18em;cursor:help}}
abbr[title]:focus::after{{content:attr(title);position:fixed;inset:auto 1rem 1rem;z-index:20;max-width:36rem;
margin:0 auto;padding:.6rem .9rem;border-radius:6px;background:var(--ink);color:var(--paper);
font-weight:400;font-size:.86rem;line-height:1.45;text-align:left;white-space:normal}}
section{{margin:2.2rem 0 0;min-width:0}}
.split{{display:grid;grid-template-columns:minmax(0,1fr) 25rem;gap:0 2.4rem;margin-top:1rem;
grid-template-rows:auto 1fr;align-items:start}}
.split>aside{{grid-column:2;grid-row:1/span 2}} .split>.below{{grid-column:1}}
.pair{{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:0 3rem}}
aside{{border-left:1px solid var(--rule);padding:0 0 1rem 1.6rem;min-width:0}}
details>summary{{cursor:pointer;color:var(--link);font-size:.92rem;margin:.2rem 0 .5rem}}
"""


def _controls() -> str:
    return """
[hidden]{display:none!important}
.pickers{display:flex;flex-wrap:wrap;gap:.7rem 1.1rem;margin-bottom:.4rem;align-items:flex-end}
.pickers label{font-size:.78rem;color:var(--muted);flex:0 1 15.5rem;min-width:0}
.pickers label>span:first-child{display:block;margin-bottom:.15rem}
.pickers label label{display:inline-flex;gap:.3rem;align-items:center;margin-right:.9rem;color:var(--ink);
font-size:.86rem}
.buttons{display:flex;flex-wrap:wrap;gap:.6rem;align-items:center;margin:.2rem 0 .8rem}
.buttons>div{flex:0 1 11rem;min-width:8rem}
button{font:inherit;font-size:.86rem;padding:.3rem .8rem;background:var(--raised);color:var(--ink);
border:1px solid var(--rule);border-radius:4px;cursor:pointer}
button:hover{border-color:var(--muted)}
.radios{font-size:.78rem;color:var(--muted)}
input[type=search]{font:inherit;font-size:.9rem;width:100%;padding:.36rem .6rem;background:var(--paper);
color:var(--ink);border:1px solid var(--muted);border-radius:4px}
.bound{margin:0 0 .75rem;font-size:.86rem} .bound>div:first-child{margin-bottom:-.1rem}
.replay{display:flex;gap:.9rem;align-items:flex-end;margin:.1rem 0 .5rem;font-size:.86rem;max-width:56rem}
.replay>div:nth-child(2){flex:1;min-width:0} .replay button{min-width:4.2rem}
aside .best p{font-size:.92rem}
aside .best:not(:empty){border-left:3px solid var(--orange);padding-left:.8rem;
margin:.2rem 0 1rem}
.command{display:flex;gap:.8rem;align-items:flex-start;background:var(--raised);border-radius:6px;
padding:.6rem .8rem;margin:0 0 .7rem;max-width:46rem}
.command code{overflow-wrap:anywhere;flex:1} .command>div,.source>div{cursor:pointer}
.source{position:relative} .source>div{position:absolute;right:.8rem;top:.7rem}
.source pre{max-height:26rem;overflow:auto} .written pre{white-space:pre-wrap;overflow-wrap:anywhere}
"""


def _studies() -> str:
    return """
.training{list-style:none;margin:.1rem 0 .5rem;padding:0;font-size:.9rem;color:var(--muted)}
.training strong{color:var(--ink)} #studies-training a{font-weight:600;text-decoration:none}
#studies-training>div{display:flex;flex-wrap:wrap;gap:0 1rem;align-items:baseline}
.studies table{width:100%;margin-top:1rem;font-size:.92rem}
.studies td,.studies th{text-align:left;padding:.65rem 1.6rem .65rem 0;vertical-align:top;white-space:normal}
.studies tbody td{border-bottom:1px solid var(--rule)}
.studies a{font-weight:600;text-decoration:none;overflow-wrap:anywhere}
.studies a:hover{text-decoration:underline}
.studies td:first-child{min-width:10rem;max-width:22rem}
.studies ul{margin:.2rem 0;padding-left:1.1rem;font-size:.84rem}
.studies details summary{font-size:.84rem;margin:0}
.bests{white-space:nowrap} .bar{height:4px;background:var(--rule);border-radius:2px;margin:.35rem 0 .15rem;
max-width:9rem;min-width:6rem} .bar>div{height:100%;background:var(--blue);border-radius:2px}
.spark{width:120px;height:28px;display:block}
.state.running::before{content:"";display:inline-block;width:.55em;height:.55em;border-radius:50%;
background:var(--blue);margin-right:.45em}
.state.interrupted,.state.failed{color:var(--orange)} .error{max-width:26rem;overflow-wrap:anywhere}
.first{margin-top:1.4rem} #comparison-shown{margin-top:.9rem}
"""


def _networks() -> str:
    return f"""
ul.layers{{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem .4rem;margin:.3rem 0 .6rem;padding:0;
font-size:.8rem;line-height:1.35}}
ul.layers li{{background:var(--raised);border-radius:3px;padding:.1rem .45rem;min-width:0;
overflow-wrap:anywhere}}
.numbers{{width:100%;margin:.3rem 0 .6rem;font-size:.84rem}}
.numbers td{{padding:.26rem 0 .26rem .7rem;border-bottom:1px solid var(--rule);white-space:nowrap}}
.numbers th{{padding-left:.7rem}}
.numbers td:first-child,.numbers th:first-child{{white-space:normal;padding-left:0;line-height:1.3}}
.numbers th.group{{padding:.8rem 0 .2rem;text-align:left;color:var(--ink);white-space:normal}}
.how{{color:var(--muted);font-size:.92em;margin-right:.7em}} .rough{{color:var(--orange);font-weight:600}}
.long{{max-height:30rem;overflow-y:auto}}
.long thead th{{position:sticky;top:0;background:var(--paper);z-index:1}}
.listed{{width:100%}} .listed td,.listed th{{padding:.34rem 1.2rem .34rem 0}}
.listed td{{border-bottom:1px solid var(--rule)}}
.listed td.line,.listed th:last-child{{text-align:left;padding-left:.6rem}}
.listed td.line{{color:var(--muted);font-size:.92em;width:99%;max-width:0;overflow:hidden;
text-overflow:ellipsis}} .listed th{{white-space:normal}}
a.mono{{font-family:{MONO};font-size:.92em;text-decoration:none}} a.mono:hover{{text-decoration:underline}}
.more{{margin-top:.7rem}} .more a{{font-family:inherit;font-size:.92rem;text-decoration:none}}
.more a+a{{margin-left:1.4rem}} .more a:hover{{text-decoration:underline}}
.wide{{max-width:62rem;margin-top:.6rem}} .wide label{{font-size:.78rem;color:var(--muted)}}
.sides{{font-size:.86rem;margin:.3rem 0 .4rem}} .sides td,.sides th{{padding:.3rem 1.6rem .3rem 0;
text-align:right;vertical-align:top;border-bottom:1px solid var(--rule);white-space:nowrap}}
.sides th[scope]{{text-align:left;font-weight:400;color:var(--muted)}}
.sides th:first-child{{text-align:left}}
.named th[scope],.named td.text{{white-space:normal;overflow-wrap:anywhere;min-width:9rem;max-width:20rem}}
.named td.text{{text-align:left}} .words td,.words th{{text-align:left}}
.words td{{white-space:normal;min-width:8.5rem}}
.scroll>table.sides{{min-width:min(100%,34rem)}}
.sides mark{{box-decoration-break:clone;-webkit-box-decoration-break:clone;
background:{faint(ORANGE, 0.24)};color:var(--ink);border-radius:3px;
padding:.05rem .25rem;margin-left:-.25rem}}
.apart{{display:inline-block;min-width:4.2em;color:var(--muted);font-weight:400;margin-left:.5rem;
text-align:right}}
ol.lineage{{padding-left:1.3rem;font-size:.9rem}} ol.lineage ul{{padding-left:1.2rem;margin:.1rem 0 .3rem}}
.changes{{list-style:none;display:flex;flex-wrap:wrap;gap:0 1.4rem;font-size:.92em;color:var(--muted)}}
.changes strong{{color:var(--ink)}} .lineage>li{{margin-bottom:.35rem}}
"""


def _narrow() -> str:
    """Windows of a tablet, and of a phone."""
    return """
@media (max-width:1080px){.split,.pair{grid-template-columns:minmax(0,1fr)}
.split>aside,.split>.below{grid-column:1;grid-row:auto}
aside{border-left:0;padding-left:0;border-top:1px solid var(--rule);padding-top:1rem}}
@media (max-width:PHONE_WIDTHpx){main{padding:0 1rem 2rem} h1{font-size:1.35rem}
.pickers{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:.6rem .8rem}
.sides td,.sides th{padding-right:.55rem} .sides th{white-space:normal} .sides th[scope]{min-width:4.6rem}
.sides th:first-child{position:sticky;left:0;background:var(--paper);z-index:1}
.scroll>table.sides{min-width:0} .words td{min-width:7rem}
.apart{display:block;min-width:0;margin:0} .modebar{display:none}
.listed thead{display:none} .listed,.listed tbody,.listed tr,.listed td{display:block}
.listed tr{border-bottom:1px solid var(--rule);padding:.5rem 0}
.listed td,.listed td.line{border:0;padding:.1rem 0;text-align:right;max-width:none;white-space:normal}
.listed td:first-child,.listed td.line{text-align:left}
.listed td[data-label]::before{content:attr(data-label);color:var(--muted);float:left;padding-right:1rem}
.studies thead{display:none}
.studies table,.studies tbody,.studies tr,.studies td{display:block}
.studies tr{border-bottom:1px solid var(--rule);padding:.7rem 0}
.studies tbody td{border:0;padding:.15rem 0;max-width:none}
.studies td.front::before{content:"on the front: ";color:var(--muted)}
.bests{white-space:normal}}
""".replace("PHONE_WIDTH", str(PHONE_WIDTH))
