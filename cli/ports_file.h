/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CLI_PORTS_FILE_H
#define CLI_PORTS_FILE_H

#include "cli/ports.h"

/**
 * Read the file of --config: its ports follow those that are in the list. Any thread but workers.
 *
 * @param ports the list, with @p file set
 * @param[out] error one line if it fails
 * @return 0 or a negative errno
 */
int ports_file_read(struct ports_config *ports, struct error_line *error);

#endif /* CLI_PORTS_FILE_H */
