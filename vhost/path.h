/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VHOST_PATH_H
#define VHOST_PATH_H

/**
 * @file
 * Paths of vhost-user sockets, looked at before a socket is made. Deletes and makes nothing. Any
 * thread but workers.
 */

#include <stdbool.h>

#include "cli/error.h"

/**
 * Whether somebody listens at a path. To a vhost-user server this is a guest that leaves at once.
 *
 * @param path the path of a socket
 * @return true also if it cannot be found out
 */
bool path_is_served(const char *path);

/**
 * Whether two paths are the same, in whatever way they are written (/run and /var/run).
 *
 * @param a a path
 * @param b another
 */
bool path_is_same(const char *a, const char *b);

/**
 * See that a socket can be made, or with a client connected to: its path is not too long, is in a
 * directory that can be written to, and is a new one or that of a socket.
 *
 * @param who what names the path, for the error line
 * @param path the path
 * @param client the socket is another program's
 * @param alone also that nobody listens there, if it is not a client's
 * @param[out] error one line if it fails
 * @return 0 or a negative errno
 */
int path_check(const char *who, const char *path, bool client, bool alone,
	struct error_line *error);

#endif /* VHOST_PATH_H */
