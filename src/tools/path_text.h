/*
 * Paths as text: what Node's path.resolve does to an absolute path.
 *
 * Private to src/tools.
 */
#ifndef HOLT_TOOLS_PATH_TEXT_H
#define HOLT_TOOLS_PATH_TEXT_H

/* Lexical normalisation of an absolute path: no "//", ".", ".." or final "/". The caller frees. */
char *path_text_normalize(const char *path);

#endif
