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

#include "vhost/connection.h"
#include "vhost/library.h"
#include "vhost/path.h"
#include "vhost/relay.h"
#include "vhost/socket.h"

#define DEFAULT_BASENAME "vhost-net"

/*
 * Connections that may wait until the relay comes to them; librte_vhost's number
 * (MAX_VIRTIO_BACKLOG).
 */
#define BACKLOG 128

/* How long to wait for connections of a socket that is closed, and between two looks, us. */
#define LEAVE_US 5000000
#define LOOK_US 1000

/* Of the file, since the process has one table of them, which the relay goes through. */
static struct {
	const struct config *cfg;
	struct vhost_socket place[SOCKET_MAX + 1 + PORT_MAX];
	unsigned int nb_historical; /* the first places */
} sockets;

/* Path i of the configuration, NULL after the last. */
static const char *
socket_path(const struct config *cfg, unsigned int i)
{
	if (i < cfg->nb_socket_files)
		return cfg->socket_file[i];
	if (i > cfg->nb_socket_files)
		return NULL;
	if (cfg->cuse_socket != NULL)
		return cfg->cuse_socket;
	if (cfg->dev_basename != NULL)
		return cfg->dev_basename;
	if (cfg->nb_socket_files > 0 || cfg->nb_ports > 0 || cfg->config_file != NULL)
		return NULL;
	return DEFAULT_BASENAME;
}

static const char *
option_of(const struct config *cfg, unsigned int i)
{
	return i < cfg->nb_socket_files ? "--socket-file" : "--dev-basename";
}

/* CUSE's own socket is not for others, and --client is not meant for it. */
static bool
is_client(const struct config *cfg, const char *path)
{
	return cfg->client && path != cfg->cuse_socket;
}

static const char *
where_of_port(const struct ports_config *ports, unsigned int i, char *where, size_t size)
{
	size_t len = strlen(ports_where(ports, &ports->port[i], where, size));

	snprintf(where + len, size - len, " socket");
	return where;
}

int
sockets_check(const struct config *cfg)
{
	struct error_line error;
	const char *path;
	unsigned int i, j;
	int ret;

	for (i = 0; (path = socket_path(cfg, i)) != NULL; i++) {
		ret = path_check(option_of(cfg, i), path, is_client(cfg, path), true, &error);
		for (j = 0; j < i && ret == 0; j++) {
			if (path_is_same(path, socket_path(cfg, j)))
				ret = error_set(&error, -EEXIST, "%s '%s' is given twice: each "
					"path must be unique", option_of(cfg, i), path);
		}
		if (ret < 0) {
			fprintf(stderr, "vhost-switch: %s\n", error.text);
			return ret;
		}
	}
	return 0;
}

/* Whether this switch serves a path, or did until the list is replaced. */
static bool
serves(const struct ports_config *in_use, const char *path)
{
	unsigned int i;

	for (i = 0; in_use != NULL && i < in_use->n; i++) {
		if (!in_use->port[i].client && path_is_same(in_use->port[i].socket, path))
			return true;
	}
	return false;
}

/* Against the historical sockets, and the ports before it. */
static int
check_unique(const struct config *cfg, const struct ports_config *ports, unsigned int i,
	const char *where, struct error_line *error)
{
	const char *path = ports->port[i].socket, *other;
	char there[256];
	unsigned int j;

	for (j = 0; (other = socket_path(cfg, j)) != NULL; j++) {
		if (path_is_same(path, other))
			return error_set(error, -EEXIST, "%s '%s' is also that of %s: it must be "
				"unique", where, path, option_of(cfg, j));
	}
	for (j = 0; j < i; j++) {
		if (path_is_same(path, ports->port[j].socket))
			return error_set(error, -EEXIST, "%s '%s' is also that of %s: it must be "
				"unique", where, path,
				ports_where(ports, &ports->port[j], there, sizeof(there)));
	}
	return 0;
}

int
sockets_check_ports(const struct config *cfg, const struct ports_config *ports,
	const struct ports_config *in_use, struct error_line *error)
{
	char where[256];
	unsigned int i;
	int ret;

	for (i = 0; i < ports->n; i++) {
		const struct port_settings *p = &ports->port[i];

		where_of_port(ports, i, where, sizeof(where));
		ret = path_check(where, p->socket, p->client, !serves(in_use, p->socket), error);
		if (ret == 0)
			ret = check_unique(cfg, ports, i, where, error);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/*
 * Hand a socket over to who is to connect. By a descriptor, so that what is changed is the socket
 * even where others may write in its directory.
 */
static int
hand_over(const char *path, const struct config *cfg, mode_t mode, struct stat *st)
{
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char link[32];
	int ret = 0;

	if (fd < 0)
		return -errno;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (fstat(fd, st) < 0)
		ret = -errno;
	else if (!S_ISSOCK(st->st_mode) || st->st_uid != geteuid())
		ret = -EEXIST;
	else if (fchownat(fd, "", cfg->socket_uid, cfg->socket_gid, AT_EMPTY_PATH) < 0 ||
			chmod(link, mode) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* The socket is made without permissions: nobody connects before it has its owner and mode. */
static int
start_server(struct vhost_socket *s, const struct config *cfg, struct stat *st)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	mode_t mask = umask(s->internal ? 0077 : 0777);
	mode_t mode = cfg->socket_mode != UINT32_MAX ? cfg->socket_mode : 0777 & ~mask;
	int ret = 0;

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", s->path);
	if (bind(s->listener.fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		ret = -errno;
	umask(mask);
	if (ret < 0)
		return ret;
	if (s->internal)
		ret = lstat(s->path, st) < 0 ? -errno : 0;
	else
		ret = hand_over(s->path, cfg, mode, st);
	if (ret < 0) {
		RTE_LOG(ERR, CONFIG, "%s cannot get the owner and mode that it is to have: %s\n",
			s->path, strerror(-ret));
		unlink(s->path);
		return ret;
	}
	return listen(s->listener.fd, BACKLOG) < 0 ? -errno : 0;
}

/* Remove a socket, unless it is somebody else's by now. */
static void
close_socket(const struct vhost_socket *s)
{
	struct stat st;

	if (s->listener.fd < 0)
		return;
	close(s->listener.fd);
	if (s->made.st_ino != 0 && lstat(s->path, &st) == 0 && st.st_ino == s->made.st_ino &&
			st.st_dev == s->made.st_dev)
		unlink(s->path);
}

/* Make what front ends connect to, unless they are to be connected to. */
static int
listen_at(struct vhost_socket *s, const struct config *cfg)
{
	struct stat st;

	if (s->client)
		return 0;
	if (lstat(s->path, &st) == 0) {
		/* Somebody may have come since sockets_check(). */
		if (!S_ISSOCK(st.st_mode) || path_is_served(s->path))
			return -EADDRINUSE;
		unlink(s->path);
	}
	s->listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->listener.fd < 0)
		return -errno;
	return start_server(s, cfg, &s->made);
}

static void
log_open(const struct vhost_socket *s)
{
	if (!s->internal)
		RTE_LOG(INFO, CONFIG, "%s %s\n",
			s->client ? "connecting to guests at" : "guests can connect to", s->path);
}

int
sockets_open(const struct config *cfg, const struct port_ops *ops)
{
	const char *path;
	unsigned int i;
	int ret;

	sockets.cfg = cfg;
	ret = library_open(cfg, ops);
	if (ret < 0) {
		RTE_LOG(ERR, CONFIG, "librte_vhost cannot serve a socket below /run or /tmp\n");
		return -EIO;
	}
	for (i = 0; i < RTE_DIM(sockets.place); i++)
		sockets.place[i].listener.fd = -1;
	for (i = 0; (path = socket_path(cfg, i)) != NULL; i++) {
		struct vhost_socket *s = &sockets.place[sockets.nb_historical++];

		s->path = path;
		s->client = is_client(cfg, path);
		s->internal = path == cfg->cuse_socket;
		s->not_offered = library_not_offered(cfg->mergeable, cfg->tso, cfg->tx_csum);
		ret = listen_at(s, cfg);
		if (ret < 0) {
			RTE_LOG(ERR, CONFIG, "cannot make the vhost-user socket %s: %s\n", path,
				strerror(-ret));
			return -EIO;
		}
	}
	ret = relay_start(sockets.place, RTE_DIM(sockets.place), library_fd());
	for (i = 0; i < sockets.nb_historical && ret == 0; i++)
		log_open(&sockets.place[i]);
	return ret;
}

/* A place that nothing refers to any more, NULL: none. */
static struct vhost_socket *
find_place(void)
{
	unsigned int i;

	for (i = sockets.nb_historical; i < RTE_DIM(sockets.place); i++) {
		struct vhost_socket *s = &sockets.place[i];

		if (s->port == NULL && __atomic_load_n(&s->nb_places, __ATOMIC_ACQUIRE) == 0)
			return s;
	}
	return NULL;
}

struct vhost_socket *
socket_open_port(const struct port_settings *settings, struct port *port)
{
	struct vhost_socket *s = find_place();
	bool on = settings->offload;
	int ret;

	if (s == NULL) {
		RTE_LOG(ERR, CONFIG, "port %s: no place for its socket, others are being closed\n",
			settings->name);
		return NULL;
	}
	*s = (struct vhost_socket){ .listener.fd = -1, .client = settings->client, .port = port,
		.not_offered = library_not_offered(on, on, on) };
	snprintf(s->own_path, sizeof(s->own_path), "%s", settings->socket);
	s->path = s->own_path;
	ret = listen_at(s, sockets.cfg);
	if (ret < 0) {
		RTE_LOG(ERR, CONFIG, "port %s: cannot make the vhost-user socket %s: %s\n",
			settings->name, s->path, strerror(-ret));
		close_socket(s);
		s->port = NULL;
		return NULL;
	}
	relay_call(relay_open_socket, s);
	RTE_LOG(INFO, CONFIG, "port %s: %s %s\n", settings->name,
		s->client ? "connecting to its guest at" : "its guest can connect to", s->path);
	return s;
}

void
socket_close_port(struct vhost_socket *s)
{
	unsigned int waited;

	relay_call(relay_close_socket, s);
	close_socket(s);
	s->listener.fd = -1;
	for (waited = 0; waited < LEAVE_US && __atomic_load_n(&s->nb_places, __ATOMIC_ACQUIRE) > 0;
			waited += LOOK_US)
		usleep(LOOK_US);
	s->port = NULL;
}

uint64_t
socket_refused(const struct vhost_socket *s)
{
	return __atomic_load_n(&s->nb_refused, __ATOMIC_RELAXED);
}

void
sockets_close(void)
{
	unsigned int i;

	relay_stop();
	for (i = 0; i < RTE_DIM(sockets.place); i++) {
		if (sockets.place[i].path != NULL)
			close_socket(&sockets.place[i]);
	}
	library_close();
}
