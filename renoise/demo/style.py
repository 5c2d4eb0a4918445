"""The style sheet of the page."""

CSS = """
.gradio-container { width: 100% !important; max-width: 1120px !important; margin: 0 auto !important; }
.gradio-container .column, .gradio-container .row { gap: 10px; }
#header h1 { font-size: 1.7rem; margin: 0; }
#header p { margin: .2rem 0; }
#header .model { opacity: .75; font-size: .9rem; overflow-wrap: anywhere; }
.heading h2 { font-size: 1.2rem; margin: 1rem 0 0; }
.heading h2 b { display: inline-block; width: 1.6em; height: 1.6em; line-height: 1.6em; margin-right: .5em;
  border-radius: 50%; text-align: center; color: white; background: var(--primary-600); font-size: .85em; }
.said { margin: .2rem 0; overflow-wrap: anywhere; }
.said.hint { opacity: .75; }
.said.note, .said.error { padding: .5rem .7rem; border-radius: 6px; border-left: 4px solid; }
.said.note { border-color: #d97706; background: rgba(217, 119, 6, .12); }
.said.error { border-color: #dc2626; background: rgba(220, 38, 38, .12); }
.said.running progress { width: 100%; height: .6rem; appearance: none; border: none; border-radius: 3px;
  overflow: hidden; background: var(--border-color-primary); }
.said.running progress::-webkit-progress-bar { background: var(--border-color-primary); }
.said.running progress::-webkit-progress-value { background: var(--primary-600); }
.said.running progress::-moz-progress-bar { background: var(--primary-600); }
.said.running p { margin: 0; }
#notes:not(:has(p)) { display: none; }
.shown img { width: 100%; height: 100%; object-fit: contain; }
.strip .grid-wrap { height: auto !important; min-height: 0 !important; max-height: 360px; overflow-y: auto; }
.strip .grid-container { grid-template-columns: repeat(auto-fill, minmax(78px, 1fr)) !important;
  padding: 0 !important; }
.strip img { width: 100%; height: 100%; object-fit: cover; }
#history .grid-container { grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)) !important; }
#curve h3 { font-size: .95rem; margin: 0 0 .3rem; }
.plot svg { width: 100%; height: auto; display: block; color: var(--body-text-color); }
.plot text { font-size: 13px; fill: currentColor; }
.plot line { stroke: currentColor; opacity: .2; }
.plot .curve { fill: none; stroke: var(--primary-500); stroke-width: 2; }
.plot circle { fill: var(--primary-500); }
"""
PIXELS = """
.shown img, .strip img { image-rendering: pixelated; }
"""
"""Miniature models draw so few pixels that each of them is shown."""
