/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_common.h>

#include "vhost/path.h"

bool
path_is_served(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	bool served;
	int fd;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return true;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	/* EAGAIN: its backlog is full, so there is somebody. */
	served = connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0 || errno == EAGAIN;
	close(fd);
	return served;
}

#define PATH_SIZE sizeof(((struct sockaddr_un *)0)->sun_path)

/* The name of the directory that a path is in. */
static const char *
directory_of(const char *path, char dir[PATH_SIZE])
{
	const char *slash = strrchr(path, '/');

	snprintf(dir, PATH_SIZE, "%.*s", slash != NULL ? (int)RTE_MAX(slash - path, 1) : 1,
		slash != NULL ? path : ".");
	return dir;
}

/* The directory that a path is in. Returns false when there is none. */
static bool
find_directory(const char *path, struct stat *st)
{
	char dir[PATH_SIZE];

	return stat(directory_of(path, dir), st) == 0 && S_ISDIR(st->st_mode);
}

static const char *
last_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

bool
path_is_same(const char *a, const char *b)
{
	struct stat in_a, in_b;

	if (strcmp(last_name(a), last_name(b)) != 0)
		return false;
	return strcmp(a, b) == 0 || (find_directory(a, &in_a) && find_directory(b, &in_b) &&
		in_a.st_dev == in_b.st_dev && in_a.st_ino == in_b.st_ino);
}

/* A server's socket is made in its directory, after a stale one was removed. */
static int
check_directory(const char *who, const char *path, struct error_line *error)
{
	char dir[PATH_SIZE];
	struct stat st;

	if (!find_directory(path, &st))
		return error_set(error, -ENOENT, "%s '%s' is not in an existing directory", who,
			path);
	if (faccessat(AT_FDCWD, directory_of(path, dir), W_OK | X_OK, AT_EACCESS) < 0)
		return error_set(error, -errno, "%s '%s' cannot be made: its directory must be "
			"writable: %s", who, path, strerror(errno));
	return 0;
}

int
path_check(const char *who, const char *path, bool client, bool alone, struct error_line *error)
{
	struct stat st;

	if (strlen(path) >= PATH_SIZE)
		return error_set(error, -ENAMETOOLONG, "%s has a socket path of %zu bytes: it "
			"accepts at most %zu", who, strlen(path), PATH_SIZE - 1);
	if (lstat(path, &st) < 0)
		return client ? 0 : check_directory(who, path, error);
	if (!S_ISSOCK(st.st_mode))
		return error_set(error, -ENOTSOCK, "%s '%s' exists and is not a socket: it must be "
			"a new path or a vhost-user socket", who, path);
	if (!client && alone && path_is_served(path))
		return error_set(error, -EADDRINUSE, "%s '%s' is in use by a running server: it "
			"must be a socket of this switch alone", who, path);
	return !client && alone ? check_directory(who, path, error) : 0;
}
