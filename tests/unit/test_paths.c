/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "unit.h"
#include "vhost/path.h"
#include "vhost/socket.h"

static struct error_line error;

/* A socket that is listened to; without a listener, stale. */
static int
serve(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void
test_same_path(void **state)
{
	(void)state;
	assert_int_equal(mkdir("d", 0700), 0);
	assert_int_equal(symlink("d", "link"), 0);
	assert_true(path_is_same("a", "a"));
	assert_true(path_is_same("a", "./a"));
	assert_true(path_is_same("d/a", "link/a"));
	assert_true(path_is_same("d/a", "d//a"));
	assert_false(path_is_same("d/a", "a"));
	assert_false(path_is_same("d/a", "d/b"));
	assert_false(path_is_same("none/a", "d/a"));
	unlink("link");
	rmdir("d");
}

static void
test_path_check(void **state)
{
	char path[200] = "";
	int fd;

	(void)state;
	assert_int_equal(path_check("x", "new", false, true, &error), 0);
	memset(path, 'x', 108);
	assert_int_equal(path_check("x", path, false, true, &error), -ENAMETOOLONG);
	assert_string_equal(error.text, "x has a socket path of 108 bytes: it accepts at most 107");
	assert_int_equal(path_check("x", "none/s", false, true, &error), -ENOENT);
	assert_int_equal(path_check("x", "none/s", true, true, &error), 0);
	assert_int_equal(path_check("x", "/tmp", false, true, &error), -ENOTSOCK);
	assert_string_equal(error.text, "x '/tmp' exists and is not a socket: it must be a new "
		"path or a vhost-user socket");
	fd = serve("s");
	assert_true(path_is_served("s"));
	assert_int_equal(path_check("x", "s", false, true, &error), -EADDRINUSE);
	assert_int_equal(path_check("x", "s", false, false, &error), 0);
	assert_int_equal(path_check("x", "s", true, true, &error), 0);
	close(fd);
	assert_false(path_is_served("s"));
	assert_int_equal(path_check("x", "s", false, true, &error), 0);
	assert_int_equal(access("s", F_OK), 0); /* it is not deleted */
	unlink("s");
}

/* A stale socket has to be removed there; one that this switch serves is left as it is. */
static void
test_directories_that_cannot_be_written_to(void **state)
{
	bool root = geteuid() == 0;
	int fd = serve("stale");

	(void)state;
	close(fd);
	assert_int_equal(chmod(".", 0555), 0);
	assert_true(!root || seteuid(65534) == 0);
	assert_int_equal(path_check("x", "new", false, true, &error), -EACCES);
	assert_string_equal(error.text, "x 'new' cannot be made: its directory must be writable: "
		"Permission denied");
	assert_int_equal(path_check("x", "stale", false, true, &error), -EACCES);
	assert_int_equal(path_check("x", "stale", false, false, &error), 0);
	assert_int_equal(path_check("x", "new", true, true, &error), 0);
	assert_true(!root || seteuid(0) == 0);
	assert_int_equal(chmod(".", 0700), 0);
	unlink("stale");
}

static int
check_ports(const struct config *cfg, const struct ports_config *in_use)
{
	struct ports_config *ports = ports_load(cfg, &error);
	int ret;

	assert_non_null(ports);
	ret = sockets_check_ports(cfg, ports, in_use, &error);
	ports_free(ports);
	return ret;
}

static void
test_ports_and_other_sockets(void **state)
{
	struct config cfg = { .port = { "name=a,socket=x", "name=b,socket=y" }, .nb_ports = 2 };

	(void)state;
	assert_int_equal(check_ports(&cfg, NULL), 0);
	cfg.port[1] = "name=b,socket=./x";
	assert_int_equal(check_ports(&cfg, NULL), -EEXIST);
	assert_string_equal(error.text, "--port b socket './x' is also that of --port a: it must "
		"be unique");
	cfg.port[1] = "name=b,socket=y";
	cfg.dev_basename = "./y";
	assert_int_equal(check_ports(&cfg, NULL), -EEXIST);
	assert_string_equal(error.text, "--port b socket 'y' is also that of --dev-basename: it "
		"must be unique");
	cfg.dev_basename = NULL;
	cfg.socket_file[cfg.nb_socket_files++] = "x";
	assert_int_equal(check_ports(&cfg, NULL), -EEXIST);
	assert_string_equal(error.text, "--port a socket 'x' is also that of --socket-file: it "
		"must be unique");
	cfg.nb_socket_files = 0;
	cfg.port[0] = "name=a,socket=none/x";
	assert_int_equal(check_ports(&cfg, NULL), -ENOENT);
	assert_string_equal(error.text, "--port a socket 'none/x' is not in an existing directory");
}

/* Named ports are the only ones where no other socket is asked for. */
static void
test_no_default_beside_ports(void **state)
{
	struct config cfg = { .port = { "name=a,socket=vhost-net" }, .nb_ports = 1 };

	(void)state;
	assert_int_equal(check_ports(&cfg, NULL), 0);
	cfg.dev_basename = "vhost-net";
	assert_int_equal(check_ports(&cfg, NULL), -EEXIST);
}

/* A list that is read again may give a socket that this switch serves to another port. */
static void
test_sockets_in_use(void **state)
{
	struct config cfg = { .port = { "name=a,socket=x" }, .nb_ports = 1 };
	struct ports_config *in_use = ports_load(&cfg, &error);
	int fd = serve("x"), other = serve("y");

	(void)state;
	assert_non_null(in_use);
	assert_int_equal(check_ports(&cfg, in_use), 0);
	cfg.port[0] = "name=b,socket=x";
	assert_int_equal(check_ports(&cfg, in_use), 0);
	assert_int_equal(check_ports(&cfg, NULL), -EADDRINUSE);
	cfg.port[0] = "name=a,socket=y";
	assert_int_equal(check_ports(&cfg, in_use), -EADDRINUSE);
	assert_string_equal(error.text, "--port a socket 'y' is in use by a running server: it "
		"must be a socket of this switch alone");
	cfg.port[0] = "name=a,socket=y,mode=client";
	assert_int_equal(check_ports(&cfg, in_use), 0);
	ports_free(in_use);
	close(fd);
	close(other);
	unlink("x");
	unlink("y");
}

static int
enter_directory(void **state)
{
	static char dir[] = "/tmp/test_paths-XXXXXX";

	*state = mkdtemp(dir);
	return *state == NULL || chdir(dir) < 0;
}

static int
leave_directory(void **state)
{
	return chdir("/") < 0 || rmdir(*state) < 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_path),
		cmocka_unit_test(test_path_check),
		cmocka_unit_test(test_directories_that_cannot_be_written_to),
		cmocka_unit_test(test_ports_and_other_sockets),
		cmocka_unit_test(test_no_default_beside_ports),
		cmocka_unit_test(test_sockets_in_use),
	};

	return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
