/* The rolling buffer of a shell's output and the text that is made of it. Private to bash.c. */
#ifndef HOLT_TOOLS_BASH_OUTPUT_H
#define HOLT_TOOLS_BASH_OUTPUT_H

#include <stdbool.h>

#include "base/buffer.h"

struct bash_output {
    struct buffer bytes;
    bool has_dropped; /* more came than could ever be shown */
};

void bash_output_add(struct bash_output *output, const char *bytes, size_t length);
void bash_output_clear(struct bash_output *output);
/*
 * The official text: the last units that fit beside a status of `status_digits` digits, without CSI
 * sequences and final newlines, valid UTF-8, after "[output truncated]" where the head is lost.
 */
void bash_output_text(const struct bash_output *output, size_t status_digits, struct buffer *text);

#endif
