/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

/**
 * @file
 * The application's half of the command line: the options after "--".
 *
 * What --port and --config say about ports has a table of its own (port_keys.c), and is read after
 * the options (ports.h).
 *
 * One table (options.c) holds a row for each option: its names, the values it accepts, its default,
 * its help text, and the member of struct config that it sets. Usage, parsing and error messages
 * all come from that row, so a new option is one new row.
 *
 * Everything here runs in the main thread before EAL is initialised, prints to plain stdio, and
 * starts, opens and deletes nothing.
 */

#include <stdio.h>

#include "main.h"

/**
 * Find where the application's arguments start in a whole command line.
 *
 * @param argc number of entries in @p argv
 * @param argv the command line of the process
 * @return index of the "--" in @p argv, or @p argc when there is none
 */
int options_find(int argc, char **argv);

/**
 * Parse the application's arguments. Prints one line to stderr when one is wrong, naming the
 * option, what was wrong, and what the option accepts.
 *
 * @param argc number of entries in @p argv
 * @param argv the arguments, argv[0] being ignored (the "--" or the program's name); the strings
 *   must outlive @p cfg
 * @param[out] cfg the result, defaults filled in
 * @return 0, or -EINVAL after the message was printed. When cfg->help or cfg->version is
 *   set, nothing else was required of the command line.
 */
int options_parse(int argc, char **argv, struct config *cfg);

/**
 * Print how to call the program.
 *
 * @param out stream to print to
 * @param program its name as it was called
 */
void options_usage(FILE *out, const char *program);

#endif /* CLI_OPTIONS_H */
