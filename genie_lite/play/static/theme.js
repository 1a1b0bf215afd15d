/** Dark or light: as the system says, until somebody chooses otherwise. Runs before the first paint. */

const KEPT_AS = "genie-lite-theme";
const root = document.documentElement;

try {
  const kept = localStorage.getItem(KEPT_AS);
  if (kept) root.dataset.theme = kept;
} catch {
  // Storage is closed in some private windows: the choice then lasts as long as the page.
}

/** Whether the page is dark now. */
function isDark() {
  const chosen = root.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Turn dark to light or back, and remember it. */
export function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  root.dataset.theme = theme;
  try {
    localStorage.setItem(KEPT_AS, theme);
  } catch {
    // As above.
  }
  return theme;
}
