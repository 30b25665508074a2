// Texts of scripts in the page's language, and the locale by which it writes times.
"use strict";

const gettext = (text, values = {}) =>
  (globalThis.words?.[text] ?? text).replace(/%\((\w+)\)s/g, (hole, name) => values[name] ?? hole);
const locale = navigator.languages.find((tag) => tag.split("-")[0] === document.documentElement.lang) ?? document.documentElement.lang;
