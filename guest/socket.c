/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/virtio_net.h>

#include "guest/frontend.h"
#include "guest/socket.h"
#include "guest/vhost_user.h"

#define DEFAULT_BASENAME "vhost-net"

static struct guests *guests_of_sockets;
static const char *open_path[SOCKET_MAX];
static unsigned int nb_open;

/* Path i of the configuration, NULL behind the last. */
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
	return cfg->nb_socket_files == 0 ? DEFAULT_BASENAME : NULL;
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

/* Whether somebody listens there. A vhost-user server takes our hanging up as a guest that left. */
static bool
is_served(const char *path)
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

static int
check_directory(const char *option, const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)] = ".";
	struct stat st;

	if (slash != NULL)
		snprintf(dir, sizeof(dir), "%.*s", (int)RTE_MAX(slash - path, 1), path);
	if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	fprintf(stderr, "vhost-switch: %s takes a path in an existing directory, not '%s'\n", option,
		path);
	return -ENOENT;
}

static int
check_path(const char *option, const char *path, bool client)
{
	struct stat st;

	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		fprintf(stderr, "vhost-switch: %s takes a socket path of at most %zu bytes, "
			"this one has %zu\n", option, sizeof(((struct sockaddr_un *)0)->sun_path) - 1,
			strlen(path));
		return -ENAMETOOLONG;
	}
	if (lstat(path, &st) < 0)
		return client ? 0 : check_directory(option, path);
	if (!S_ISSOCK(st.st_mode)) {
		fprintf(stderr, "vhost-switch: %s takes a vhost-user socket, "
			"and '%s' is there and is none\n", option, path);
		return -ENOTSOCK;
	}
	if (!client && is_served(path)) {
		fprintf(stderr, "vhost-switch: %s takes a socket of its own, "
			"and '%s' is in use by a running server\n", option, path);
		return -EADDRINUSE;
	}
	return 0;
}

int
sockets_check(const struct config *cfg)
{
	const char *path;
	unsigned int i, j;
	int ret;

	for (i = 0; (path = socket_path(cfg, i)) != NULL; i++) {
		ret = check_path(option_of(cfg, i), path, is_client(cfg, path));
		if (ret < 0)
			return ret;
		for (j = 0; j < i; j++) {
			if (strcmp(path, socket_path(cfg, j)) == 0) {
				fprintf(stderr, "vhost-switch: %s takes each path once, "
					"'%s' is given twice\n", option_of(cfg, i), path);
				return -EEXIST;
			}
		}
	}
	return 0;
}

static int
on_new_device(int vid)
{
	if (!frontend_is_sound(vid))
		return -EPROTO;
	return guests_join(guests_of_sockets, vid);
}

static void
on_destroy_device(int vid)
{
	guests_leave(guests_of_sockets, vid);
}

static int
on_vring_state_changed(int vid, uint16_t vring, int enable)
{
	guests_set_ring(guests_of_sockets, vid, vring, enable != 0);
	return 0;
}

/* Before librte_vhost acts on a message. When it fails to, after_message() is not called. */
static enum rte_vhost_msg_result
before_message(int vid, void *message)
{
	if (!frontend_accepts(vid, message))
		return RTE_VHOST_MSG_RESULT_ERR;
	if (frontend_keeps(vid, message, guests_of_sockets))
		return RTE_VHOST_MSG_RESULT_OK; /* and after_message() is called */
	guests_pause(guests_of_sockets, vid);
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static enum rte_vhost_msg_result
after_message(int vid, void *message)
{
	frontend_done(vid, message, guests_of_sockets);
	guests_resume(guests_of_sockets, vid);
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static const struct rte_vhost_user_extern_ops message_ops = {
	.pre_msg_handle = before_message,
	.post_msg_handle = after_message,
};

static int
on_new_connection(int vid)
{
	frontend_connected(vid);
	guests_clear_rings(vid);
	return rte_vhost_extern_callback_register(vid, &message_ops, NULL);
}

static void
on_destroy_connection(int vid)
{
	frontend_gone(vid);
	guests_clear_rings(vid);
}

static const struct rte_vhost_device_ops device_ops = {
	.new_device = on_new_device,
	.destroy_device = on_destroy_device,
	.vring_state_changed = on_vring_state_changed,
	.new_connection = on_new_connection,
	.destroy_connection = on_destroy_connection,
};

/*
 * What librte_vhost can do, less what was not asked for. UDP fragmentation and TCP segmentation
 * over IPv6 are never offered: the switch cannot finish them for a destination that does not know
 * them, and a guest that is not offered them does them itself.
 */
static int
offer_features(const char *path, const struct config *cfg)
{
	uint64_t never = RTE_BIT64(VIRTIO_NET_F_HOST_UFO) | RTE_BIT64(VIRTIO_NET_F_GUEST_UFO) |
		RTE_BIT64(VIRTIO_NET_F_HOST_TSO6) | RTE_BIT64(VIRTIO_NET_F_GUEST_TSO6) |
		RTE_BIT64(VIRTIO_NET_F_HOST_ECN) | RTE_BIT64(VIRTIO_NET_F_GUEST_ECN);
	uint64_t off = never;

	if (!cfg->mergeable)
		off |= RTE_BIT64(VIRTIO_NET_F_MRG_RXBUF);
	if (!cfg->tso)
		off |= RTE_BIT64(VIRTIO_NET_F_HOST_TSO4) | RTE_BIT64(VIRTIO_NET_F_GUEST_TSO4);
	if (!cfg->tx_csum)
		off |= RTE_BIT64(VIRTIO_NET_F_CSUM) | RTE_BIT64(VIRTIO_NET_F_GUEST_CSUM);
	return rte_vhost_driver_disable_features(path, off);
}

/* Of the protocol's features, those that guests of a switch have a use for. */
static int
offer_protocol_features(const char *path)
{
	return rte_vhost_driver_set_protocol_features(path, RTE_BIT64(VHOST_USER_PROTOCOL_F_MQ) |
		RTE_BIT64(VHOST_USER_PROTOCOL_F_LOG_SHMFD) | RTE_BIT64(VHOST_USER_PROTOCOL_F_RARP) |
		RTE_BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
		RTE_BIT64(VHOST_USER_PROTOCOL_F_NET_MTU) | RTE_BIT64(VHOST_USER_PROTOCOL_F_STATUS));
}

/*
 * Hand a socket over to who is to connect. By a descriptor, so that what is changed is the socket
 * even where others may write in its directory.
 */
static int
hand_over(const char *path, const struct config *cfg, mode_t mode)
{
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char link[32];
	struct stat st;
	int ret = 0;

	if (fd < 0)
		return -errno;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (fstat(fd, &st) < 0)
		ret = -errno;
	else if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
		ret = -EEXIST;
	else if (fchownat(fd, "", cfg->socket_uid, cfg->socket_gid, AT_EMPTY_PATH) < 0 ||
			chmod(link, mode) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/*
 * librte_vhost makes the socket and listens in one go. So it is made without permissions: nobody
 * connects before it has its owner and mode.
 */
static int
start_server(const char *path, const struct config *cfg)
{
	bool own = path == cfg->cuse_socket; /* for this process alone */
	mode_t mask = umask(own ? 0077 : 0777);
	mode_t mode = cfg->socket_mode != UINT32_MAX ? cfg->socket_mode : 0777 & ~mask;
	int ret;

	ret = rte_vhost_driver_start(path);
	umask(mask);
	if (ret < 0)
		return -EIO;
	if (own)
		return 0;
	ret = hand_over(path, cfg, mode);
	if (ret < 0)
		RTE_LOG(ERR, CONFIG, "%s cannot get the owner and mode that it is to have: %s\n", path,
			strerror(-ret));
	return ret;
}

static int
open_socket(const char *path, const struct config *cfg)
{
	uint64_t flags = RTE_VHOST_USER_NET_COMPLIANT_OL_FLAGS;
	bool client = is_client(cfg, path);
	struct stat st;

	if (client)
		flags |= RTE_VHOST_USER_CLIENT;
	else if (lstat(path, &st) == 0) {
		/* Somebody may have come since sockets_check(); unregistering would delete theirs. */
		if (!S_ISSOCK(st.st_mode) || is_served(path))
			return -EADDRINUSE;
		unlink(path);
	}
	if (rte_vhost_driver_register(path, flags) < 0)
		return -EIO;
	open_path[nb_open++] = path;
	if (offer_features(path, cfg) < 0 || offer_protocol_features(path) < 0 ||
			rte_vhost_driver_callback_register(path, &device_ops) < 0)
		return -EIO;
	if ((client ? rte_vhost_driver_start(path) : start_server(path, cfg)) < 0)
		return -EIO;
	if (path != cfg->cuse_socket)
		RTE_LOG(INFO, CONFIG, "%s %s\n",
			client ? "connecting to guests at" : "guests can connect to", path);
	return 0;
}

int
sockets_open(const struct config *cfg, struct guests *guests)
{
	const char *path;
	unsigned int i;

	guests_of_sockets = guests;
	for (i = 0; (path = socket_path(cfg, i)) != NULL; i++) {
		if (open_socket(path, cfg) < 0) {
			RTE_LOG(ERR, CONFIG, "cannot make the vhost-user socket %s\n", path);
			return -EIO;
		}
	}
	return 0;
}

void
sockets_close(void)
{
	while (nb_open > 0)
		rte_vhost_driver_unregister(open_path[--nb_open]);
}
